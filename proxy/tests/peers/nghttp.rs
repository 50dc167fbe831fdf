//! nghttp and nghttpd, on one side each: padding, narrow windows, CONTINUATION, trailers, tables of
//! changing size.

use std::io::Write as _;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use crate::common::{Mesh, Need, PATIENCE, Peer, Proxy, Ran, full, have, program, run};

use super::http2::violations;

fn missing() -> bool {
    !have(&[Need::Program("nghttp"), Need::Program("nghttpd")])
}

/// nghttpd, which tells what it hears, pads all it says by up to 255 bytes and ends it with a
/// trailer. It takes three streams at once.
fn before_nghttpd() -> (Proxy, Peer, TempDir) {
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    std::fs::write(folder.path().join("name"), "nghttpd").expect("cannot write");
    let options = ["--verbose", "--padding=255", "--trailer=sum: 1", "-m", "3"];
    let app = Peer::nghttpd(folder.path(), &options);
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    (proxy, app, folder)
}

fn nghttp(proxy: &Proxy, path: &str, options: &[&str]) -> Ran {
    let mut command = program("nghttp");
    command.arg("--header=:authority: web.test").args(options);
    run(command.arg(format!("http://{}{path}", proxy.outbound())), PATIENCE).ok()
}

#[test]
fn bodies_pass_unchanged_whatever_frames_and_windows_are_used() {
    if missing() {
        return;
    }
    let (proxy, _app, _folder) = before_nghttpd();
    let mut file = NamedTempFile::new().expect("cannot make a temporary file");
    let line: Vec<u8> = (0..=250).collect();
    let lines = if full() { 1 << 18 } else { 1 << 14 };
    let body = line.repeat(lines);
    file.write_all(&body).expect("cannot write");
    let upload = |options: &[&str]| {
        let data = format!("--data={}", file.path().display());
        nghttp(&proxy, "/", &[&[data.as_str()], options].concat()).stdout
    };
    for options in [
        &[][..],
        &["--padding=255"],
        &["--padding=1", "--window-bits=10", "--connection-window-bits=12"],
        &["--window-bits=30", "--connection-window-bits=30", "--no-content-length"],
        &["--trailer=a: b", "--no-dep"],
        &["--expect-continue"],
    ] {
        let echo = upload(options);
        assert!(echo == body, "{options:?}: {} bytes of {}", echo.len(), body.len());
    }
    assert_eq!(violations(&proxy), 0);
    assert!(proxy.memory("VmHWM") < 32 << 20, "{} bytes", proxy.memory("VmHWM"));
}

#[test]
fn a_large_head_and_trailers_pass_both_ways() {
    if missing() {
        return;
    }
    let (proxy, app, _folder) = before_nghttpd();
    let body = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    assert!(Path::new(body).is_file());
    let data = format!("--data={body}");
    // Its fields need CONTINUATION frames on either hop.
    let options = ["--verbose", "--continuation", "--trailer=checked: yes", &data];
    let seen = nghttp(&proxy, "/", &options).text();
    assert!(seen.contains("sum: 1"), "{seen}");
    let heard = app.output();
    for number in 1..=6 {
        assert!(heard.contains(&format!(") continuation-test-{number}: ---")), "{heard}");
    }
    assert!(heard.contains(") checked: yes"), "{heard}");
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn many_streams_wait_for_three_and_tables_may_shrink() {
    if missing() {
        return;
    }
    let (proxy, _app, _folder) = before_nghttpd();
    let tables = ["-c", "0", "-c", "100", "-c", "4096", "--encoder-header-table-size=0"];
    for options in [&[][..], &tables] {
        let seen = nghttp(&proxy, "/name", &[&["--multiply=500"], options].concat());
        assert_eq!(seen.text(), "nghttpd".repeat(500), "{options:?}");
    }
    assert_eq!(violations(&proxy), 0);
}

#[test]
fn an_upgrade_to_http2_is_answered_in_http1() {
    if missing() {
        return;
    }
    let app = crate::common::App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let mut command = program("nghttp");
    command.args(["--verbose", "--upgrade", "--header=host: web.test"]);
    command.arg(format!("http://{}/reflect", proxy.outbound()));
    let seen = run(&mut command, PATIENCE);
    // It cannot go on without, but what it got is an answer (RFC 9110 §7.8).
    assert!(seen.text().contains("HTTP/1.1 200 OK"), "{seen:?}");
    assert!(seen.stderr.contains("HTTP Upgrade failed"), "{seen:?}");
    assert!(!seen.text().contains("HTTP2-Settings: "), "{seen:?}");
}
