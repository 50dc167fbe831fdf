//! The command line: what is refused before anything starts.

use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::common::{Mesh, PATIENCE, Ran, program, run};

fn check(text: &str) -> Ran {
    let (_folder, file) = written(text);
    let mut command = program(env!("CARGO_BIN_EXE_selvedge"));
    run(command.args(["check", "--mesh"]).arg(file), PATIENCE)
}

fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let file = folder.path().join("mesh.toml");
    std::fs::write(&file, text).expect("cannot write");
    (folder, file)
}

#[test]
fn a_good_file_is_accepted() {
    let target = "127.0.0.1:9".parse().expect("an address");
    let mesh = Mesh::new().service("web.test:80", &[target]).forward(&[target]);
    check(&mesh.render()).ok();
    // Every key is optional.
    check("").ok();
}

#[test]
fn the_example_of_the_issue_is_accepted() {
    check(
        r#"
        [proxy]
        outbound = "127.0.0.1:4140"
        inbound  = "127.0.0.1:4143"
        admin    = "127.0.0.1:4191"
        app      = "127.0.0.1:8080"
        opaque_ports = [3306, 5432]

        [[service]]
        authority = "web.example:80"
        endpoints = ["127.0.0.1:9001", { addr = "127.0.0.1:9002", weight = 2 }]
        opaque    = false
        timeout   = "10s"
        connect_timeout = "1s"
        idle_timeout = "1m"
        failfast = "3s"

        [[service]]
        authority = "v6.example"
        endpoints = ["[::1]:80", "name.example:8080"]

        [[tcp]]
        listen = "127.0.0.1:5432"
        to     = ["127.0.0.1:15432"]
        "#,
    )
    .ok();
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let ran = check(
        r#"
        [proxy]
        outbound = "nowhere"
        colour = "red"
        [limits]
        header_count = -1
        [timeouts]
        connect = "soon"
        [[service]]
        authority = "user@web.test"
        endpoints = ["127.0.0.1:9001", { addr = "127.0.0.1:99999" }]
        [[service]]
        endpoints = []
        [[tcp]]
        listen = "127.0.0.1:5432"
        to = ["127.0.0.1:5432"]
        "#,
    );
    assert_eq!(ran.status.code(), Some(64), "{}", ran.stderr);
    // Each with its key and its value, if it has one.
    for words in [
        &["proxy.outbound", "nowhere"][..],
        &["colour"],
        &["limits.header_count", "-1"],
        &["timeouts.connect", "soon"],
        &["authority", "user@web.test"],
        &["127.0.0.1:99999"],
        &["service[1].authority"],
        &["service[1].endpoints"],
        &["tcp[0].to", "127.0.0.1:5432"],
    ] {
        let mut lines = ran.stderr.lines();
        let told = lines.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(told, "nothing about {words:?}:\n{}", ran.stderr);
    }
}

#[test]
fn run_refuses_what_check_refuses() {
    let (_folder, file) = written("[proxy]\ncolour = \"red\"\n");
    let ran = run(&mut Mesh::new().command(&file), PATIENCE);
    assert_eq!(ran.status.code(), Some(64));
    let said = ran.text() + &ran.stderr;
    assert!(said.contains("colour"), "{said}");
    let ran = run(&mut Mesh::new().command(&file.with_extension("none")), PATIENCE);
    assert_eq!(ran.status.code(), Some(64));
}

#[test]
fn a_target_that_is_our_own_listener_is_refused() {
    let mesh = Mesh::new();
    let own = mesh.outbound;
    let ran = check(&mesh.service("web.test", &[own]).render());
    assert_eq!(ran.status.code(), Some(64), "{}", ran.stderr);
    assert!(ran.stderr.contains(&own.to_string()), "{}", ran.stderr);
}

#[test]
fn an_address_in_use_ends_it_with_1() {
    for which in 0..4 {
        let taken = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
        let addr = taken.local_addr().expect("no address");
        let mut mesh = Mesh::new().forward(&["127.0.0.1:9".parse().expect("an address")]);
        match which {
            0 => mesh.outbound = addr,
            1 => mesh.inbound = addr,
            2 => mesh.admin = addr,
            _ => mesh.forwards[0].0 = addr,
        }
        let (_folder, file) = written(&mesh.render());
        let ran = run(&mut mesh.command(&file), PATIENCE);
        assert_eq!(ran.status.code(), Some(1), "listener {which}");
        let said = ran.text() + &ran.stderr;
        assert!(said.contains(&addr.to_string()), "{said}");
    }
}

#[test]
fn bad_usage_is_64_and_help_is_0() {
    let selvedge = |args: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_selvedge"));
        run(command.args(args), PATIENCE).status.code()
    };
    assert_eq!(selvedge(&["--help"]), Some(0));
    assert_eq!(selvedge(&["--version"]), Some(0));
    assert_eq!(selvedge(&["run"]), Some(64));
    assert_eq!(selvedge(&["fly"]), Some(64));
}
