//! `selvedge ca` as openssl and curl see it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Service, init, selvedge, text_of};
use crate::common::{Need, PATIENCE, Ran, have, program, run};

const NAME: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";

#[track_caller]
fn openssl(words: &[&str]) -> Ran {
    run(program("openssl").args(words), PATIENCE)
}

/// A key and a request for it, as openssl makes them.
#[track_caller]
fn request(folder: &Path, curve: &str, subject: &str, san: &str) -> std::path::PathBuf {
    let (key, csr) = (folder.join("leaf.key"), folder.join("leaf.csr"));
    openssl(&["ecparam", "-name", curve, "-genkey", "-noout", "-out", text_of(&key)]).ok();
    let words = ["req", "-new", "-key", text_of(&key), "-subj", subject];
    let rest = ["-addext", san, "-outform", "DER", "-out", text_of(&csr)];
    openssl(&[&words[..], &rest].concat()).ok();
    csr
}

#[test]
fn openssl_asks_and_openssl_verifies() {
    if !have(&[Need::Program("openssl"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    let service = Service::start(&ca);
    let san = format!("subjectAltName=DNS:{NAME}");
    let csr = request(folder.path(), "prime256v1", &format!("/CN={NAME}"), &san);
    let (status, chain) = service.certify(&csr);
    assert_eq!(status, "200", "{chain}");
    let leaf = folder.path().join("leaf.crt");
    fs::write(&leaf, &chain).expect("cannot write");
    let anchor = format!("{ca}/ca.crt");
    for purpose in ["sslserver", "sslclient"] {
        let words = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &anchor];
        let verified = openssl(&[&words[..], &["-verify_hostname", NAME, text_of(&leaf)]].concat());
        verified.ok();
    }
    let shown = openssl(&["x509", "-noout", "-text", "-in", text_of(&leaf)]).ok().text();
    for line in [
        &format!("Subject: CN = {NAME}"),
        "Issuer: CN = root.cluster.local",
        "Public-Key: (256 bit)",
        "CA:FALSE",
        "Digital Signature",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        &format!("DNS:{NAME}\n"),
        "ecdsa-with-SHA256",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    // It is over in an hour.
    openssl(&["x509", "-checkend", "3500", "-noout", "-in", text_of(&leaf)]).ok();
    let ran = openssl(&["x509", "-checkend", "3700", "-noout", "-in", text_of(&leaf)]);
    assert!(!ran.status.success());
    // What others are to trust can be had from it too.
    let url = format!("http://{}/anchors", service.addr);
    let anchors = run(program("curl").args(["-sS", &url]), PATIENCE).ok().text();
    assert_eq!(anchors, fs::read_to_string(&anchor).expect("cannot read"));
}

#[test]
fn what_openssl_asks_for_wrongly_is_refused() {
    if !have(&[Need::Program("openssl"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    let service = Service::start(&ca);
    let own = format!("/CN={NAME}");
    let san = format!("subjectAltName=DNS:{NAME}");
    let other = "subjectAltName=DNS:web.example.com";
    let both = format!("{san},IP:127.0.0.1");
    for (curve, subject, san, status, why) in [
        ("secp384r1", &*own, &*san, "400", "expected an ECDSA P-256 key"),
        ("prime256v1", "/CN=web.example.com", other, "403", "in the trust domain cluster.local"),
        ("prime256v1", "/O=evil", &*san, "400", "expected an empty subject"),
        ("prime256v1", &*own, &*both, "400", "expected one subjectAltName"),
    ] {
        let csr = request(folder.path(), curve, subject, san);
        let (found, body) = service.certify(&csr);
        assert_eq!(found, status, "{body}");
        assert!(body.contains(why), "{body}");
        assert!(!body.contains("CERTIFICATE"), "{body}");
    }
    let csr = request(folder.path(), "prime256v1", &own, &san);
    assert_eq!(service.certify(&csr).0, "200");
}

#[test]
fn the_key_of_an_authority_is_its_owners_alone() {
    let (folder, ca) = init();
    let key = folder.path().join("ca.key");
    // Whatever the mask of whoever made it.
    let wide = tempfile::tempdir().expect("cannot make a temporary folder");
    let line = format!(
        "umask 0; exec {} ca init {}",
        env!("CARGO_BIN_EXE_selvedge"),
        text_of(wide.path())
    );
    run(program("sh").args(["-c", &line]), PATIENCE).ok();
    for key in [&key, &wide.path().join("ca.key")] {
        let mode = fs::metadata(key).expect("no key").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    let before = fs::read(&key).expect("cannot read");
    let again = run(&mut selvedge(&["ca", "init", &ca]), PATIENCE);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("is there already, nothing was written"), "{}", again.stderr);
    assert_eq!(fs::read(&key).expect("cannot read"), before);

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("cannot change the mode");
    let ran = run(&mut selvedge(&["ca", "serve", &ca, "--listen", "127.0.0.1:0"]), PATIENCE);
    assert_eq!(ran.status.code(), Some(64));
    let why = format!("{}: its mode is 0640, expected 0600 or less", text_of(&key));
    assert!(ran.text().contains(&why), "{}", ran.text());
}

/// From its first moment: what opens the file says so.
#[test]
fn the_key_of_an_authority_is_made_with_its_mode() {
    if !have(&[Need::Program("strace")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let trace = folder.path().join("trace");
    let ca = folder.path().join("ca");
    let mut command = program("strace");
    command.args(["-f", "-e", "trace=openat,open,creat,chmod,fchmod,fchmodat", "-o"]).arg(&trace);
    command.arg(env!("CARGO_BIN_EXE_selvedge")).args(["ca", "init", text_of(&ca)]);
    run(&mut command, PATIENCE).ok();
    let trace = fs::read_to_string(&trace).expect("no trace");
    let made: Vec<_> = trace.lines().filter(|line| line.contains("ca.key")).collect();
    let [line] = made[..] else { panic!("{made:?}") };
    assert!(line.contains("O_CREAT|O_EXCL") && line.contains(", 0600)"), "{line}");
}
