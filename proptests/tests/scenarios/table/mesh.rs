//! Several endpoints, reloads and drains.

use std::time::Duration;

use selvedge_core::engine::Event;

use super::{AS_IT_IS, GET, OK, SHORT, Scenario, scenario};
use crate::net::endpoint;

const TWO: &str = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";

pub(super) const TABLE: &[Scenario] = &[
    scenario("two requests at once go to two endpoints", AS_IT_IS, |s| {
        let clients = [s.client(), s.client()];
        s.send(clients[0], TWO);
        let (one, first) = s.either([1, 2]);
        s.sees(first, TWO);
        s.send(clients[1], TWO);
        let (other, second) = s.either([1, 2]);
        assert_ne!(one, other);
        s.sees(second, TWO);
        s.send(second, OK);
        s.sees(clients[1], OK);
        s.send(first, OK);
        s.sees(clients[0], OK);
    }),
    scenario("an endpoint that a reload takes away gets no more", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let old = s.app(0);
        s.sees(old, GET);
        s.send(old, OK);
        s.sees(client, OK);
        let new = s.addr(1);
        s.reload(|config| config.services[0].endpoints = vec![endpoint(new)]);
        // Its idle connection goes with it.
        s.fin(old);
        s.send(client, GET);
        let app = s.app(1);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("a reload leaves what is in progress alone", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let old = s.app(0);
        s.sees(old, GET);
        let new = s.addr(1);
        s.reload(|config| config.services[0].endpoints = vec![endpoint(new)]);
        s.send(old, OK);
        s.sees(client, OK);
        s.fin(old);
    }),
    scenario("a service that a reload brings", AS_IT_IS, |s| {
        let client = s.client();
        let request = "GET / HTTP/1.1\r\nHost: new.example\r\n\r\n";
        s.send(client, request);
        s.answer(client, 404);
        s.reload(|config| {
            let mut service = config.services[0].clone();
            service.name = "new.example:80".into();
            config.services.push(service);
        });
        s.send(client, request);
        let app = s.app(0);
        s.sees(app, request);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("a drain closes what is idle and finishes the rest", AS_IT_IS, |s| {
        let idle = s.client();
        s.send(idle, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(idle, OK);
        let busy = s.client();
        s.send(busy, GET);
        s.sees(app, GET);
        s.drain();
        s.fin(idle);
        s.send(app, OK);
        let head = s.head(busy, "HTTP/1.1 200 OK\r\n").to_lowercase();
        assert!(head.contains("connection: close\r\n"), "{head}");
        s.sees(busy, "ok");
        s.fin(busy);
        s.close(busy);
        s.event(&Event::Drained);
    }),
    scenario("a drain lets a tunnel finish", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.send(client, "before");
        s.sees(app, "before");
        s.drain();
        s.send(client, "after");
        s.sees(app, "after");
        s.finish(client);
        s.fin(app);
        s.finish(app);
        s.fin(client);
        s.event(&Event::Drained);
    }),
    scenario(
        "a drain does not wait for ever",
        |config| config.timeouts.grace = SHORT,
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.drain();
            s.rst(client);
            s.rst(app);
            s.event(&Event::Drained);
        },
    ),
    scenario(
        "an idle pooled connection is closed",
        |config| config.timeouts.pool_idle = SHORT,
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.send(app, OK);
            s.sees(client, OK);
            s.fin(app);
        },
    ),
    scenario(
        "an endpoint comes back",
        |config| {
            config.timeouts.failfast = Duration::from_secs(20);
            config.timeouts.backoff_min = Duration::from_millis(100);
        },
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.reset(app);
            s.answer(client, 502);
            // By a connect without a request, which the next request finds.
            let back = s.app(0);
            s.send(client, GET);
            s.sees(back, GET);
            s.send(back, OK);
            s.sees(client, OK);
        },
    ),
];
