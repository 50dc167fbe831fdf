//! The proxy under test.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::{PATIENCE, curl, eventually, free_port, program, run, signal};

/// A mesh file in the making, with listeners of its own.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    pub(crate) outbound: SocketAddr,
    pub(crate) inbound: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Lines under `[proxy]`, besides the listeners.
    pub(crate) proxy: Vec<String>,
    /// Lines under `[limits]`.
    pub(crate) limits: Vec<String>,
    /// Lines under `[timeouts]`.
    pub(crate) timeouts: Vec<String>,
    /// Authority, endpoints, more lines.
    pub(crate) services: Vec<(String, Vec<SocketAddr>, String)>,
    /// The lines of each `[[route]]`.
    pub(crate) routes: Vec<String>,
    /// Listener, targets.
    pub(crate) forwards: Vec<(SocketAddr, Vec<SocketAddr>)>,
    /// Whole sections: `[identity]` and `[[inbound]]`, or services with endpoints of their own kind.
    pub(crate) sections: Vec<String>,
    /// What the proxy is started by, to put it in another place: `ip netns exec …`.
    pub(crate) wrapper: Vec<String>,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Mesh {
            outbound: loopback(),
            inbound: loopback(),
            admin: loopback(),
            proxy: Vec::new(),
            limits: Vec::new(),
            timeouts: Vec::new(),
            services: Vec::new(),
            routes: Vec::new(),
            forwards: Vec::new(),
            sections: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    pub(crate) fn service(mut self, authority: &str, endpoints: &[SocketAddr]) -> Self {
        self.services.push((authority.into(), endpoints.into(), String::new()));
        self
    }

    /// What the endpoints of the last service are spoken to.
    pub(crate) fn speaks(mut self, protocol: &str) -> Self {
        let (.., lines) = self.services.last_mut().expect("a service");
        let _ = writeln!(lines, "protocol = \"{protocol}\"");
        self
    }

    pub(crate) fn route(mut self, lines: &str) -> Self {
        self.routes.push(lines.into());
        self
    }

    pub(crate) fn forward(mut self, to: &[SocketAddr]) -> Self {
        self.forwards.push((loopback(), to.into()));
        self
    }

    pub(crate) fn proxy(mut self, line: impl Into<String>) -> Self {
        self.proxy.push(line.into());
        self
    }

    pub(crate) fn limit(mut self, line: impl Into<String>) -> Self {
        self.limits.push(line.into());
        self
    }

    pub(crate) fn timeout(mut self, line: impl Into<String>) -> Self {
        self.timeouts.push(line.into());
        self
    }

    pub(crate) fn section(mut self, text: impl Into<String>) -> Self {
        self.sections.push(text.into());
        self
    }

    pub(crate) fn wrapper(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.into()).collect();
        self
    }

    /// As TOML.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "[proxy]\noutbound = \"{}\"\ninbound = \"{}\"\nadmin = \"{}\"\n{}\n\
             [limits]\n{}\n[timeouts]\n{}\n",
            self.outbound,
            self.inbound,
            self.admin,
            self.proxy.join("\n"),
            self.limits.join("\n"),
            self.timeouts.join("\n"),
        );
        for (authority, endpoints, lines) in &self.services {
            let endpoints = quoted(endpoints);
            let _ = write!(
                text,
                "[[service]]\nauthority = \"{authority}\"\nendpoints = {endpoints}\n{lines}\n"
            );
        }
        for lines in &self.routes {
            let _ = write!(text, "[[route]]\n{lines}\n");
        }
        for (listen, to) in &self.forwards {
            let to = quoted(to);
            let _ = write!(text, "[[tcp]]\nlisten = \"{listen}\"\nto = {to}\n");
        }
        for section in &self.sections {
            let _ = writeln!(text, "{section}");
        }
        text
    }

    /// `selvedge run --mesh FILE`.
    pub(crate) fn command(&self, file: &Path) -> Command {
        let mut words = self.wrapper.clone();
        words.push(env!("CARGO_BIN_EXE_selvedge").into());
        let mut command = program(&words[0]);
        command.args(&words[1..]).args(["run", "--mesh"]).arg(file);
        command
    }

    /// Starts the proxy and waits until it is ready.
    pub(crate) fn start(self) -> Proxy {
        let mut proxy = self.launch();
        proxy.wait_until_ready();
        proxy
    }

    /// Starts the proxy, ready or not.
    pub(crate) fn launch(self) -> Proxy {
        let folder = tempfile::tempdir().expect("cannot make a temporary folder");
        let file = folder.path().join("mesh.toml");
        std::fs::write(&file, self.render()).expect("cannot write");
        self.launch_with(folder, file)
    }

    /// The same with a mesh file that is already somewhere in `folder`.
    pub(crate) fn start_with(self, folder: TempDir, file: PathBuf) -> Proxy {
        let mut proxy = self.launch_with(folder, file);
        proxy.wait_until_ready();
        proxy
    }

    fn launch_with(self, folder: TempDir, file: PathBuf) -> Proxy {
        let log = File::create(folder.path().join("log")).expect("cannot create");
        let mut command = self.command(&file);
        command.stdout(log.try_clone().expect("cannot copy a descriptor"));
        command.stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Proxy { mesh: self, file, folder, child }
    }
}

/// A running proxy. It is killed when this is dropped, and its log printed if the test failed.
pub(crate) struct Proxy {
    /// What it was started with.
    pub(crate) mesh: Mesh,
    /// The mesh file.
    pub(crate) file: PathBuf,
    folder: TempDir,
    child: Child,
}

impl Proxy {
    /// Two of them: an outbound one that knows `app` by that authority, and the inbound one before it.
    /// Between them is HTTP/2.
    pub(crate) fn chain(authority: &str, app: SocketAddr) -> [Proxy; 2] {
        let inbound = Mesh::new().proxy(format!("app = \"{app}\"")).start();
        let outbound = Mesh::new().service(authority, &[inbound.inbound()]).speaks("mesh").start();
        [outbound, inbound]
    }

    /// Where apps send.
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.mesh.outbound
    }

    /// Where the opaque forward listens that was added as number `index`.
    pub(crate) fn inbound(&self) -> SocketAddr {
        self.mesh.inbound
    }

    pub(crate) fn forward(&self, index: usize) -> SocketAddr {
        self.mesh.forwards[index].0
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&mut self) {
        eventually("the proxy is ready", PATIENCE, || {
            self.assert_alive();
            self.is_ready().then_some(())
        });
    }

    /// Does `/ready` answer 200?
    pub(crate) fn is_ready(&self) -> bool {
        self.admin("/ready").is_some()
    }

    /// What the admin server answers, if it is a 200.
    pub(crate) fn admin(&self, path: &str) -> Option<String> {
        let url = format!("http://{}{path}", self.mesh.admin);
        let inner = curl(self.mesh.admin, &["--fail", &url]);
        let mut command = self.beside(&inner);
        let ran = run(&mut command, PATIENCE);
        ran.status.success().then(|| ran.text())
    }

    /// A figure of `/metrics`, by its name and labels as they are written there.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.admin("/metrics").expect("no metrics");
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {metrics}"))
    }

    /// A command in the same network namespace.
    fn beside(&self, inner: &Command) -> Command {
        let mut command = match &self.mesh.wrapper[..] {
            [ip, netns, exec, name, ..] if ip == "ip" => {
                let mut command = program(ip);
                command.args([netns, exec, name]).arg(inner.get_program());
                command
            }
            _ => program(inner.get_program()),
        };
        command.args(inner.get_args());
        command
    }

    /// curl through the outbound listener.
    #[track_caller]
    pub(crate) fn curl(&self, args: &[&str]) -> super::Ran {
        run(&mut curl(self.outbound(), args), PATIENCE)
    }

    /// The status and the body of a GET through the outbound listener; 0 if there was none.
    #[track_caller]
    pub(crate) fn get(&self, url: &str) -> (u16, String) {
        let text = self.curl(&["--write-out", "\n%{http_code}", url]).text();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), body.into())
    }

    /// A figure of `/proc/PID/status`, in bytes: `VmRSS`, `VmHWM`.
    pub(crate) fn memory(&self, key: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("no /proc");
        let line = status.lines().find(|line| line.starts_with(key));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {key} in {status}")) * 1024
    }

    /// CPU time so far, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("no /proc");
        // The second field, a name in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').expect("no name");
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every Linux.
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        eventually("the proxy ends", limit, || self.child.try_wait().expect("cannot wait"))
    }

    /// It must still be running.
    #[track_caller]
    pub(crate) fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("cannot wait");
        assert!(ended.is_none(), "the proxy ended: {ended:?}");
    }

    /// Writes the mesh file anew, over the old content.
    pub(crate) fn rewrite_in_place(&self, mesh: &Mesh) {
        std::fs::write(&self.file, mesh.render()).expect("cannot write");
    }

    /// Writes the mesh file anew beside the old one, and renames it over it.
    pub(crate) fn rewrite_by_rename(&self, mesh: &Mesh) {
        let next = self.folder.path().join("mesh.next");
        std::fs::write(&next, mesh.render()).expect("cannot write");
        std::fs::rename(&next, &self.file).expect("cannot rename");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let mesh = std::fs::read_to_string(&self.file).unwrap_or_default();
            eprintln!("--- mesh file:\n{mesh}\n--- log of the proxy:\n{}", self.log());
        }
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

fn quoted(addrs: &[SocketAddr]) -> String {
    let addrs: Vec<_> = addrs.iter().map(|addr| format!("\"{addr}\"")).collect();
    format!("[{}]", addrs.join(", "))
}
