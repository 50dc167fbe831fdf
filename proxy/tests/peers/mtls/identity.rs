//! How a proxy comes by its certificate, and keeps one.

use std::fs;

use super::{Service, identity, init};
use crate::common::{Mesh, Need, PATIENCE, Proxy, curl, eventually, free_port, have, run};

const NAME: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";

/// What `/ready` says, whatever its status.
fn readiness(proxy: &Proxy) -> String {
    let url = format!("http://{}/ready", proxy.mesh.admin);
    run(&mut curl(proxy.mesh.admin, &[&url]), PATIENCE).text()
}

fn answers(proxy: &Proxy, result: &str) -> u64 {
    proxy.metric(&format!("control_identity_cert_refreshes_total{{result=\"{result}\"}}"))
}

fn expires(proxy: &Proxy) -> u64 {
    proxy.metric("control_identity_cert_expiration_timestamp_seconds")
}

#[test]
fn it_is_not_ready_before_its_first_certificate() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let (_folder, ca) = init();
    let port = free_port();
    let ca_address = format!("http://127.0.0.1:{port}");
    let mut proxy = Mesh::new().section(identity(NAME, &ca_address)).launch();
    eventually("the authority was asked in vain", PATIENCE, || {
        (proxy.admin("/live").is_some() && answers(&proxy, "error") > 0).then_some(())
    });
    assert_eq!(readiness(&proxy), "not ready: no valid certificate\n");
    assert_eq!(proxy.metric("proxy_identity_certified"), 0);
    assert_eq!(expires(&proxy), 0);
    let log = proxy.log();
    assert!(log.contains(&format!("no certificate: {ca_address}: Connection refused")), "{log}");
    // There it is: the proxy asks again by itself.
    let _service = Service::start_on(&ca, port);
    proxy.wait_until_ready();
    assert_eq!(answers(&proxy, "success"), 1);
    assert_eq!(proxy.metric("proxy_identity_certified"), 1);
    let log = proxy.log();
    assert!(log.contains(&format!("certified name={NAME}")), "{log}");
}

#[test]
fn what_it_cannot_start_from_is_said_at_once() {
    let (_folder, ca) = init();
    let mesh = Mesh::new().section(identity("web.elsewhere", "nowhere"));
    let refused = |text: &str| {
        let folder = tempfile::tempdir().expect("cannot make a temporary folder");
        let file = folder.path().join("mesh.toml");
        fs::write(&file, text).expect("cannot write");
        let ran = run(&mut mesh.command(&file), PATIENCE);
        assert_eq!(ran.status.code(), Some(64));
        ran.text()
    };
    let text = refused(&identity("web.elsewhere", &ca));
    assert!(text.contains("identity.name = \"web.elsewhere\": expected a DNS name"), "{text}");
    let text = refused(&identity(NAME, "nowhere"));
    assert!(text.contains("mesh.toml: identity.ca: "), "{text}");
    assert!(text.contains("nowhere/ca.key: No such file"), "{text}");
    let text = refused(&format!("{}\nanchors = \"none.pem\"", identity(NAME, &ca)));
    assert!(text.contains("none.pem: No such file"), "{text}");
    let elsewhere = "web.elsewhere\"\ntrust_domain = \"elsewhere";
    let text = refused(&identity(elsewhere, &ca));
    let why = "identity.trust_domain = \"elsewhere\": expected \"cluster.local\"";
    assert!(text.contains(why), "{text}");
}

#[test]
fn another_authority_takes_over_while_it_runs() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let ((_one, one), (_other, other)) = (init(), init());
    let proxy = Mesh::new().section(identity(NAME, &one)).start();
    assert_eq!(answers(&proxy, "success"), 1);
    let first = expires(&proxy);
    // Another lifetime, and another folder.
    let mut next = proxy.mesh.clone();
    next.sections = vec![identity(NAME, &other) + "\nlifetime = \"1h\""];
    proxy.rewrite_by_rename(&next);
    eventually("the other authority was asked", PATIENCE, || {
        (answers(&proxy, "success") == 2).then_some(())
    });
    eventually("its certificate is in use", PATIENCE, || (expires(&proxy) < first).then_some(()));
    assert!(proxy.is_ready());
    // One whose certificates nobody trusts is refused; what there is stays.
    let anchors = format!("{}\nanchors = \"{other}/ca.crt\"", identity(NAME, &one));
    next.sections = vec![anchors];
    proxy.rewrite_by_rename(&next);
    eventually("it was refused", PATIENCE, || (answers(&proxy, "error") > 0).then_some(()));
    let why = "its certificate does not lead to a trust anchor in";
    assert!(proxy.log().contains(why), "{}", proxy.log());
    assert!(proxy.is_ready());
}

#[test]
fn trust_anchors_are_watched() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let ((folder, one), (_other, other)) = (init(), init());
    let file = folder.path().join("anchors.pem");
    let pem = |ca: &str| fs::read_to_string(format!("{ca}/ca.crt")).expect("no certificate");
    fs::write(&file, pem(&one)).expect("cannot write");
    let section = format!("{}\nanchors = \"{}\"", identity(NAME, &one), super::text_of(&file));
    let proxy = Mesh::new().section(section).start();
    let said = |what: &str| {
        eventually(what, PATIENCE, || proxy.log().contains(what).then_some(()));
    };
    fs::write(&file, pem(&one) + &pem(&other)).expect("cannot write");
    said("the trust anchors changed: ");
    assert!(proxy.log().contains("anchors=2"), "{}", proxy.log());
    fs::write(&file, "half a fi").expect("cannot write");
    said("the trust anchors changed: refused, those before stay in effect");
    // Its own certificate is not worth anything to others any more: it tries to get another.
    fs::write(&file, pem(&other)).expect("cannot write");
    said("the certificate does not lead to a trust anchor any more: asking for another");
    said("its certificate does not lead to a trust anchor in");
    assert!(proxy.is_ready());
}
