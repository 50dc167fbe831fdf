//! The example `smol`: the same mesh file on another runtime.

use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::common::{App, Mesh, Need, PATIENCE, curl, eventually, example, have, program, run};

#[test]
fn a_mesh_file_on_another_runtime() {
    if !have(&[Need::Program("curl"), Need::Example("smol")]) {
        return;
    }
    let app = App::start("the app");
    let mesh = Mesh::new().service("web.test", &[app.addr]);
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let file = folder.path().join("mesh.toml");
    std::fs::write(&file, mesh.render()).expect("cannot write");

    let mut command = program(example("smol"));
    command.arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Ended(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    let get = || run(&mut curl(mesh.outbound, &["http://web.test/name"]), PATIENCE);
    let body = eventually("an answer", PATIENCE, || {
        let ran = get();
        ran.status.success().then(|| ran.text())
    });
    assert_eq!(body, "the app");

    child.0.stdin.as_mut().expect("it is piped").write_all(b"\n").expect("it reads");
    let status =
        eventually("it ends", PATIENCE, || child.0.try_wait().expect("cannot wait for it"));
    assert!(status.success(), "{status}");
    let mut said = String::new();
    child.0.stdout.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
    assert!(said.starts_with(&format!("listening: outbound {}\n", mesh.outbound)), "{said}");
    assert!(said.ends_with("Draining\nDrained\n"), "{said}");
}

/// Kills it if the test fails before it ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
