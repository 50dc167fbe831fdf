//! Servers that are processes of their own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::{PATIENCE, eventually};

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

    /// Starts a server that was told to listen on `addr`, and waits until it does.
    pub(super) fn listening(command: &mut Command, addr: SocketAddr) -> Self {
        let (child, folder) = spawn(command);
        let mut peer = Peer { child, folder, addr };
        eventually("the server listens", PATIENCE, || {
            if let Some(status) = peer.child.try_wait().expect("cannot wait") {
                panic!("{command:?}: {status}");
            }
            std::net::TcpStream::connect(addr).ok()
        });
        peer
    }

    /// Everything it printed.
    pub(crate) fn output(&self) -> String {
        output(self.folder.path())
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        super::signal(self.child.id(), name);
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
