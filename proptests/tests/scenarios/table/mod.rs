//! The scenarios.

mod faults;
mod http;
mod http2;
mod mesh;
mod refusals;
mod tcp;

use std::time::Duration;

use crate::net::Setup;
use crate::stage::Stage;

/// Something that happens to a proxy, from the first connection to the last.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) setup: Setup,
    pub(crate) play: fn(&mut Stage),
}

const fn scenario(name: &'static str, setup: Setup, play: fn(&mut Stage)) -> Scenario {
    Scenario { name, setup, play }
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Scenario> {
    [http::TABLE, http2::TABLE, refusals::TABLE, faults::TABLE, tcp::TABLE, mesh::TABLE]
        .into_iter()
        .flatten()
        .copied()
}

/// The configuration as it is.
const AS_IT_IS: Setup = |_| {};

/// A time that a scenario waits for.
const SHORT: Duration = Duration::from_millis(300);

/// Bytes that are at the right place only if none is lost, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: app.example\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
