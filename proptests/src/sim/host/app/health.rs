//! What an app answers when it is asked how it does.

use crate::sim::availability::HEALTHZ;
use crate::sim::net::{HostId, Net};
use crate::traffic::wire::Head;

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// With a path.
    Http,
    /// By gRPC's protocol for that.
    Grpc,
}

/// An answer: head, body and trailers.
pub(super) struct Answer {
    pub(super) head: &'static [u8],
    pub(super) body: &'static [u8],
    pub(super) trailers: &'static [u8],
}

/// Is this such a question?
pub(super) fn asked(head: &Head) -> Option<Asked> {
    match head.parts() {
        [b"GET", path, _] if path == HEALTHZ.as_bytes() => Some(Asked::Http),
        [b"POST", b"/grpc.health.v1.Health/Check", _] => Some(Asked::Grpc),
        _ => None,
    }
}

/// What it says.
pub(super) fn answer(net: &mut Net<'_>, app: u16, asked: Asked) -> Answer {
    let failing = net.model.failing[usize::from(app)];
    let fails = !net.healed && failing.strikes(net.choose, net.now);
    net.say(HostId::App(app), || format!("is asked how it does: {}", !fails));
    let (head, body, trailers): (&[u8], &[u8], &[u8]) = match (asked, fails) {
        (Asked::Http, false) => (b"HTTP/1.1 200 Well\r\nContent-Length: 0\r\n\r\n", b"", b""),
        (Asked::Http, true) => (b"HTTP/1.1 503 Not well\r\nContent-Length: 0\r\n\r\n", b"", b""),
        // A message in its frame: field 1 is the status.
        (Asked::Grpc, false) => (CALL, &[0, 0, 0, 0, 2, 8, 1], b"grpc-status: 0\r\n\r\n"),
        (Asked::Grpc, true) => (CALL, &[0, 0, 0, 0, 2, 8, 2], b"grpc-status: 0\r\n\r\n"),
    };
    Answer { head, body, trailers }
}

const CALL: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n";

impl Answer {
    /// As HTTP/1 spells it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.to_vec();
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("{:x}\r\n", self.body.len()).as_bytes());
            bytes.extend_from_slice(self.body);
            bytes.extend_from_slice(b"\r\n0\r\n");
            bytes.extend_from_slice(self.trailers);
        }
        bytes
    }
}
