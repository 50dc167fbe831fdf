//! Servers that are processes of their own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::{PATIENCE, eventually, program};

/// A server process. It is killed when this is dropped.
pub(crate) struct Peer {
    child: Child,
    folder: TempDir,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Peer {
    /// Starts a server that prints the address it listens on as its first line.
    pub(crate) fn start(command: &mut Command) -> Self {
        let (child, folder) = spawn(command);
        let addr = eventually("the server says where it listens", PATIENCE, || {
            let text = output(folder.path());
            let (line, _) = text.split_once('\n')?;
            Some(line.parse().unwrap_or_else(|_| panic!("no address: {text}")))
        });
        Peer { child, folder, addr }
    }

    /// Starts haproxy as an HTTP server that answers everything with `name`: quick, and not ours.
    pub(crate) fn haproxy(name: &str, port: u16) -> Self {
        Self::haproxy_on(name, port, "")
    }

    /// The same, with more words behind `bind`: `proto h2`.
    pub(crate) fn haproxy_on(name: &str, port: u16, bind: &str) -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = format!(
            "global\n  nbthread 1\n\
             defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
             frontend app\n  bind {addr} {bind}\n  \
             http-request return status 200 content-type text/plain string {name}\n"
        );
        let file = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
        std::fs::write(file.path(), config).expect("cannot write");
        let (child, folder) = spawn(program("haproxy").args(["-db", "-f"]).arg(file.path()));
        eventually("haproxy listens", PATIENCE, || std::net::TcpStream::connect(addr).ok());
        Peer { child, folder, addr }
    }

    /// Everything it printed.
    pub(crate) fn output(&self) -> String {
        output(self.folder.path())
    }

    /// `kill -9`. Returns how many connections were open to it.
    pub(crate) fn kill(mut self) -> usize {
        let open = connections_to(self.addr.port());
        self.child.kill().expect("cannot kill");
        self.child.wait().expect("cannot wait");
        open
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- server on {}:\n{}", self.addr, self.output());
        }
    }
}

fn spawn(command: &mut Command) -> (Child, TempDir) {
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let file = File::create(folder.path().join("output")).expect("cannot create");
    command.stdout(file.try_clone().expect("cannot copy a descriptor"));
    command.stderr(file);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    (child, folder)
}

fn output(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("output")).unwrap_or_default()
}

/// Established connections whose server side is this port.
pub(crate) fn connections_to(port: u16) -> usize {
    let local = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("no /proc/net/tcp");
    let established = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next().is_some_and(|addr| addr.ends_with(&local)) && columns.nth(1) == Some("01")
    };
    table.lines().filter(established).count()
}
