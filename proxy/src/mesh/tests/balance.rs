//! `balancer`, `sticky`, `slow_start` and `zone`.

use std::time::Duration;

use selvedge_core::balance::{Kind, LoadBound};
use selvedge_core::policy::{Affinity, Balancing, Key};

use super::{bad, good};

fn balancing(keys: &str) -> Balancing {
    let file = format!("[[service]]\nauthority = \"a\"\nendpoints = [\"10.0.0.1:80\"]\n{keys}");
    good(&file).config.services[0].balancing.clone()
}

#[test]
fn every_way_to_balance_has_a_name() {
    assert_eq!(balancing(""), Balancing::default());
    for (name, kind) in [
        ("peak-ewma", Kind::PeakEwma),
        ("least-request", Kind::LeastRequest),
        ("round-robin", Kind::RoundRobin),
        ("random", Kind::Random),
    ] {
        let expected = Balancing { kind, ..Balancing::default() };
        assert_eq!(balancing(&format!("balancer = \"{name}\"")), expected);
    }
    let user = Affinity { key: Key::Header("x-user".into()), load_bound: LoadBound::default() };
    let session = Affinity { key: Key::Cookie("sid".into()), load_bound: LoadBound::NONE };
    let source = Affinity { key: Key::Source, load_bound: LoadBound::thousandths(1_500) };
    for (keys, expected) in [
        (
            "balancer = { maglev = { header = \"x-user\" } }\nslow_start = \"30s\"",
            Balancing {
                kind: Kind::Maglev,
                affinity: Some(user.clone()),
                slow_start: Duration::from_secs(30),
                sticky: None,
            },
        ),
        (
            "balancer = { ring-hash = { source = true, load_bound = 1.5 } }\n\
             sticky = { cookie = \"sid\", load_bound = 0 }",
            Balancing {
                kind: Kind::RingHash,
                affinity: Some(source),
                sticky: Some(session),
                ..Balancing::default()
            },
        ),
        (
            "sticky = { header = \"x-user\" }",
            Balancing { sticky: Some(user), ..Balancing::default() },
        ),
        (
            "balancer = { maglev = \"source\" }",
            Balancing {
                kind: Kind::Maglev,
                affinity: Some(Affinity { key: Key::Source, load_bound: LoadBound::default() }),
                ..Balancing::default()
            },
        ),
    ] {
        assert_eq!(balancing(keys), expected, "{keys}");
    }
    let forward = good(
        "[proxy]\nzone = \"a\"\n[[tcp]]\nlisten = \"127.0.0.1:5432\"\n\
         to = [{ addr = \"10.0.0.1:1\", zone = \"b\" }]\nbalancer = { maglev = \"source\" }",
    );
    let service = &forward.config.services[0];
    assert_eq!(service.balancing.kind, Kind::Maglev);
    assert_eq!(forward.config.zone.as_deref(), Some("a"));
    assert_eq!(service.endpoints[0].zone.as_deref(), Some("b"));
}

#[test]
fn what_is_no_way_to_balance() {
    let kinds = r#"expected "peak-ewma", "least-request", "round-robin", "random", { maglev = { header = "x-user" } } or the same with ring-hash"#;
    let key = r#"expected { header = "x-user" }, { cookie = "session" } or "source""#;
    let bound = "expected a number from 1 to 100, or 0 for no bound";
    for (keys, expected) in [
        ("balancer = \"maglev\"", format!("balancer = \"maglev\": {kinds}")),
        ("balancer = {}", format!("balancer = {{}}: {kinds}")),
        ("balancer = { maglev = \"user\" }", format!("balancer.maglev = \"user\": {key}")),
        (
            "balancer = { ring-hash = { header = \"a\", cookie = \"b\" } }",
            format!("balancer.ring-hash = {{ header = \"a\", cookie = \"b\" }}: {key}"),
        ),
        (
            "sticky = { header = \"x user\" }",
            "sticky.header = \"x user\": expected a name of letters, digits and -_.".to_owned(),
        ),
        ("sticky = {}", format!("sticky = {{}}: {key}")),
        (
            "sticky = { source = true, load_bound = 0.5 }",
            format!("sticky.load_bound = 0.5: {bound}"),
        ),
        (
            "slow_start = \"slow\"",
            "slow_start = \"slow\": expected a duration like \"300ms\", \"10s\", \"5m\", \"1h\" or \"2d\", or 0 for at once"
                .to_owned(),
        ),
    ] {
        let file = format!("[[service]]\nauthority = \"a\"\nendpoints = [\"10.0.0.1:80\"]\n{keys}");
        assert_eq!(bad(&file), [format!("4: service[0].{expected}")], "{file}");
    }
    assert_eq!(
        bad("[proxy]\nzone = \"\""),
        [r#"2: proxy.zone = "": expected a name, like "eu-1a""#.to_owned()]
    );
}
