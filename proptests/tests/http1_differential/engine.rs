//! What the engine writes, and not only what the codec would.

use std::sync::Arc;

use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_proptests::differential::{Input, Kind};
use selvedge_proptests::harness::{Harness, outbound};
use selvedge_proptests::table;

/// What the far side gets of an input that we accept, and the message after it if the connection can
/// carry one; `None` if it goes nowhere.
pub(crate) fn forwarded(input: &Input<'_>) -> Option<[Vec<u8>; 2]> {
    let taken = input.ours.as_ref().ok()?;
    let mut harness = Harness::new(config());
    let client = harness.accept(0);
    if input.kind == Kind::Request {
        harness.send(client, input.bytes);
        let app = *harness.connected().first()?;
        let received = harness.pipe(app).received.clone();
        let next = if taken.is_last { b"" } else { input.kind.next_message() };
        // A tunnel is ours to open: the app sees no CONNECT. Neither does it see what asks for one
        // and more.
        let is_http = received.starts_with(taken.forwarded.split(|&b| b == b' ').next()?);
        return is_http.then(|| [received, next.to_vec()]);
    }
    let asked = format!("{} / HTTP/1.1\r\nHost: a.example\r\n\r\n", input.kind.answers());
    harness.send(client, asked.as_bytes());
    let app = *harness.connected().first()?;
    harness.send(app, input.bytes);
    if harness.pipe(app).over.is_none() {
        harness.close(app);
    }
    let received = harness.pipe(client).received.clone();
    let next = if taken.is_last { b"" } else { input.kind.next_message() };
    Some([received, next.to_vec()])
}

/// Every authority that tables and corpora know has an endpoint.
fn config() -> Arc<Config> {
    let service = |name: &str| {
        let endpoint = Endpoint {
            target: Target::Addr(([10, 0, 0, 1], 80).into()),
            weight: 1,
            mesh: None,
            zone: None,
        };
        Service { name: name.into(), endpoints: vec![endpoint], ..Service::default() }
    };
    let others = ["a:80", "b:80", "b.example:81"];
    let services = table::AUTHORITIES.into_iter().chain(others).map(service).collect();
    Arc::new(Config { listeners: vec![outbound()], services, ..Config::default() })
}
