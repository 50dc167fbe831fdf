use selvedge_core::config::{Config, Target};

use super::good;

const START: &str = r#"
[[service]]
authority = "web"
endpoints = ["10.0.0.1:80"]
[[tcp]]
listen = "127.0.0.1:5432"
to = ["10.0.0.2:5432"]
"#;

fn first_targets(config: &Config) -> Vec<(&str, String)> {
    let show = |target: &Target| match target {
        Target::Addr(addr) => addr.to_string(),
        Target::Name { host, port } => format!("{host}:{port}"),
    };
    let pair = |service: &'_ selvedge_core::config::Service| show(&service.endpoints[0].target);
    let services = config.services.iter();
    services.map(|s| (&*s.name, pair(s))).collect()
}

#[test]
fn what_can_change_changes_and_the_listeners_stay() {
    let started = good(START);
    let mut current = started.config.clone();
    // As opened: the system may have chosen a port.
    current.listeners[0].addr = "127.0.0.1:33333".parse().unwrap();
    let next = good(
        r#"
        [timeouts]
        connect = "2s"
        [limits]
        queue = 1
        [proxy]
        app = "127.0.0.1:8080"
        opaque_ports = [25]
        [[service]]
        authority = "api"
        endpoints = ["10.0.0.3:80"]
        [[tcp]]
        listen = "127.0.0.1:5432"
        to = ["10.0.0.4:5432"]
        "#,
    );
    let expected = next.config.clone();
    let reload = started.reload(&current, next);
    assert_eq!(reload.needs_restart, [] as [&str; 0]);
    assert_eq!(reload.config.listeners, current.listeners);
    assert_eq!(reload.config.services, expected.services);
    assert_eq!(reload.config.timeouts, expected.timeouts);
    assert_eq!(reload.config.limits, expected.limits);
    assert_eq!(reload.config.app, expected.app);
    assert_eq!(reload.config.opaque_ports, [25]);
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let started = good(START);
    let next = good(
        r#"
        [proxy]
        outbound = "127.0.0.1:14140"
        inbound = "0.0.0.0:4143"
        admin = "127.0.0.1:14191"
        workers = 2
        backlog = 5
        keepalive = 0
        user_timeout = "30s"
        [[service]]
        authority = "web"
        endpoints = ["10.0.0.9:80"]
        [[tcp]]
        listen = "127.0.0.1:6543"
        to = ["10.0.0.2:5432"]
        "#,
    );
    let reload = started.reload(&started.config, next);
    assert_eq!(
        reload.needs_restart,
        [
            "proxy.outbound: 127.0.0.1:4140 became 127.0.0.1:14140",
            "proxy.inbound: 127.0.0.1:4143 became 0.0.0.0:4143",
            "proxy.admin: 127.0.0.1:4191 became 127.0.0.1:14191",
            "proxy.workers: unset became 2",
            "proxy.backlog: 1024 became 5",
            "proxy.keepalive: 10s became 0",
            "proxy.user_timeout: 0 became 30s",
            "tcp.listen: 127.0.0.1:6543 is new",
            "tcp.listen: 127.0.0.1:5432 is gone",
        ]
    );
    // The open forward still leads where it led; the new one has no socket and no service.
    assert_eq!(
        first_targets(&reload.config),
        [("web:80", "10.0.0.9:80".to_owned()), ("tcp/127.0.0.1:5432", "10.0.0.2:5432".to_owned()),]
    );
    assert_eq!(reload.config.listeners, started.config.listeners);
}

#[test]
fn a_forward_that_came_back_is_followed_again() {
    let started = good(START);
    let without = started.reload(&started.config, good(""));
    assert_eq!(without.needs_restart, ["tcp.listen: 127.0.0.1:5432 is gone"]);
    let back = started.reload(
        &without.config,
        good("[[tcp]]\nlisten = \"127.0.0.1:5432\"\nto = [\"10.0.0.7:5432\"]"),
    );
    assert_eq!(back.needs_restart, [] as [&str; 0]);
    assert_eq!(first_targets(&back.config), [("tcp/127.0.0.1:5432", "10.0.0.7:5432".to_owned())]);
}
