//! Programs that end by themselves, and are ended if they do not.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It must have ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(
            self.status.success(),
            "{}\nstdout: {}\nstderr: {}",
            self.status,
            self.text(),
            self.stderr
        );
        self
    }
}

/// A program that finds no proxy of its own in the environment, and speaks English.
pub(crate) fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    for variable in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(variable);
        command.env_remove(variable.to_uppercase());
    }
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// What starts another program so that it runs before all that has no real-time priority.
pub(crate) const HURRIED: &[&str] = &["chrt", "--fifo", "1"];

/// A Python script of `tests/scripts`.
pub(crate) fn script(name: &str) -> Command {
    let mut command = program("python3");
    command
        .args(["-u", "-B"])
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name));
    command
}

/// Where an example of this package is.
pub(crate) fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_selvedge")).with_file_name("examples").join(name)
}

/// curl, which connects to `to` whatever the URL says.
pub(crate) fn curl<S: AsRef<OsStr>>(to: SocketAddr, args: &[S]) -> Command {
    let mut command = program("curl");
    command.args(["--silent", "--show-error", "--max-time", "50"]);
    command.arg("--connect-to").arg(format!("::{to}"));
    command.args(args);
    command
}

/// Runs a program to its end, for at most `limit`.
#[track_caller]
pub(crate) fn run(command: &mut Command, limit: Duration) -> Ran {
    // Files and not pipes: a grandchild that lives on cannot hold them against us.
    let (mut stdout, mut stderr) = (scratch(), scratch());
    let (out, err) = (stdout.try_clone(), stderr.try_clone());
    command.stdout(out.expect("cannot copy a descriptor"));
    command.stderr(err.expect("cannot copy a descriptor"));
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = loop {
        if let Some(status) = child.try_wait().expect("cannot wait") {
            break status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            let (out, err) = (contents(&mut stdout), contents(&mut stderr));
            let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            panic!("{command:?} runs for over {limit:?}\nstdout: {out}\nstderr: {err}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ran {
        status,
        stdout: contents(&mut stdout),
        stderr: String::from_utf8_lossy(&contents(&mut stderr)).into_owned(),
    }
}

fn scratch() -> File {
    tempfile::tempfile().expect("cannot make a temporary file")
}

fn contents(file: &mut File) -> Vec<u8> {
    let mut contents = Vec::new();
    file.rewind().expect("cannot rewind");
    file.read_to_end(&mut contents).expect("cannot read");
    contents
}

/// Sends a signal.
pub(crate) fn signal(pid: u32, name: &str) {
    let line = format!("kill -{name} {pid}");
    let status = program("sh").args(["-c", &line]).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

/// The kernel's number of this thread.
pub(crate) fn this_thread() -> String {
    let folder = std::fs::read_link("/proc/thread-self").expect("no /proc");
    folder.file_name().expect("a thread").to_string_lossy().into_owned()
}

/// Lets a thread run before all that has no real-time priority. See [`Need::RealTime`].
///
/// [`Need::RealTime`]: super::Need::RealTime
pub(crate) fn hurry(thread: &str) {
    let status = program("chrt").args(["--fifo", "--pid", "1", thread]).status();
    assert!(status.is_ok_and(|status| status.success()), "no real-time priority");
}
