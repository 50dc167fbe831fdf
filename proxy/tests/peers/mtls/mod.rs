//! Mutual TLS between proxies: what others see of it, and what it takes.

mod authority;
mod capture;
mod identity;
mod records;
mod rotation;
mod secret;
mod table;
mod traffic;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};

use tempfile::TempDir;

use crate::common::{PATIENCE, eventually, free_port, program, run};

fn selvedge(words: &[&str]) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_selvedge"));
    command.args(words);
    command
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

pub(crate) fn init() -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let ca = text_of(folder.path()).to_owned();
    run(&mut selvedge(&["ca", "init", &ca]), PATIENCE).ok();
    (folder, ca)
}

/// `selvedge ca serve`. It is killed when this is dropped.
struct Service {
    child: Child,
    addr: SocketAddr,
}

impl Service {
    fn start(ca: &str) -> Self {
        Self::start_on(ca, free_port())
    }

    fn start_on(ca: &str, port: u16) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut command = selvedge(&["ca", "serve", ca, "--lifetime", "1h"]);
        command.args(["--listen", &addr.to_string()]);
        let child = command.spawn().expect("cannot start");
        eventually("it listens", PATIENCE, || std::net::TcpStream::connect(addr).ok());
        Service { child, addr }
    }

    /// Sends a request file as an operator would. Returns status and body.
    fn certify(&self, request: &Path) -> (String, String) {
        let body = format!("@{}", text_of(request));
        let url = format!("http://{}/certify", self.addr);
        let ran = run(
            program("curl").args(["-sS", "--max-time", "50", "-w", "\n%{http_code}"]).args([
                "-H",
                "Content-Type: application/pkcs10",
                "--data-binary",
                &body,
                &url,
            ]),
            PATIENCE,
        );
        let text = ran.ok().text();
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.into(), body.into())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `[identity]` of a mesh file.
pub(crate) fn identity(name: &str, ca: &str) -> String {
    format!("[identity]\nname = \"{name}\"\nca = \"{ca}\"")
}
