//! What hostile peers send, and what honest ones send that looks like it.
//!
//! Only the frames are here: `http2_attacks` sends them to a connection in memory, and the tests of the
//! binary to a proxy that runs.

use selvedge_core::http2::{Role, Violation};

use super::wire::{ACK, END_HEADERS, END_STREAM, Frame};

/// What every request here is.
pub const REQUEST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a.example")];

/// A request without a body.
pub fn get(id: u32) -> Frame {
    Frame::headers(id, true, &REQUEST)
}

/// A request whose body follows.
pub fn post(id: u32) -> Frame {
    Frame::headers(id, false, &REQUEST)
}

/// One attack: a step of it, over and over.
pub struct Attack {
    /// What it is.
    pub name: &'static str,
    /// What was known by this name, or the clause that names the danger.
    pub reference: &'static str,
    /// The victim. A client has asked for something on stream 1.
    pub role: Role,
    /// What the peer sends in the `n`th step. The number makes the stream: each attack begins anew.
    pub step: fn(u32) -> Vec<Frame>,
    /// What ends it …
    pub ends: Violation,
    /// … within so many steps, at 20,000 a second.
    pub within: u32,
}

const SERVER: Role = Role::Server;
const CLIENT: Role = Role::Client;

/// All of them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "rapid reset",
        reference: "CVE-2023-44487",
        role: SERVER,
        step: |n| vec![get(2 * n + 1), Frame::reset(2 * n + 1, 8)],
        ends: Violation::RapidReset,
        within: 3000,
    },
    Attack {
        name: "rapid reset of requests with a body",
        reference: "CVE-2023-44487",
        role: SERVER,
        step: |n| {
            let id = 2 * n + 1;
            let data = Frame::data(id, false, b"x");
            vec![post(id), data.clone(), data.clone(), data.clone(), data, Frame::reset(id, 8)]
        },
        ends: Violation::RapidReset,
        within: 3000,
    },
    Attack {
        name: "rapid reset by a bad WINDOW_UPDATE",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |n| vec![get(2 * n + 1), Frame::window_update(2 * n + 1, 0)],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by a window that overflows",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |n| vec![get(2 * n + 1), Frame::window_update(2 * n + 1, 0x7fff_ffff)],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by DATA after the end",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |n| vec![get(2 * n + 1), Frame::data(2 * n + 1, true, b"")],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "rapid reset by a PRIORITY of another length",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |n| vec![get(2 * n + 1), Frame::new(2, 0, 2 * n + 1, [0; 4])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "malformed requests",
        reference: "CVE-2025-8671",
        role: SERVER,
        step: |n| vec![Frame::headers(2 * n + 1, true, &[(":method", "GET")])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "streams beyond the limit",
        reference: "RFC 9113 §5.1.2",
        role: SERVER,
        step: |n| vec![post(2 * n + 1)],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "frames for streams that are over",
        reference: "RFC 9113 §5.1",
        role: SERVER,
        // They are answered; there are more than are remembered, and no two follow one another.
        step: |n| match n {
            0..300 => vec![get(4 * n + 1)],
            _ => vec![Frame::data(4 * (n % 300) + 1, false, b"x")],
        },
        ends: Violation::Overhead,
        within: 15_000,
    },
    Attack {
        name: "CONTINUATIONs without content",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |n| vec![continuation(n, b"")],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "CONTINUATIONs of one octet",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |n| vec![continuation(n, b"\x82")],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "CONTINUATIONs without end",
        reference: "CVE-2024-27316",
        role: SERVER,
        step: |n| vec![continuation(n, &[0x82; 1000])],
        ends: Violation::BlockTooLarge,
        within: 70,
    },
    Attack {
        name: "PINGs",
        reference: "CVE-2019-9512",
        role: SERVER,
        step: |_| vec![Frame::ping([0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "acknowledgements of no PING",
        reference: "CVE-2019-9512",
        role: SERVER,
        step: |_| vec![Frame::new(6, ACK, 0, [0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "SETTINGS",
        reference: "CVE-2019-9515",
        role: SERVER,
        step: |n| vec![Frame::settings(&[(4, 65_535 - n)])],
        ends: Violation::Overhead,
        within: 1500,
    },
    Attack {
        name: "DATA without content",
        reference: "CVE-2019-9518",
        role: SERVER,
        step: |n| vec![if n == 0 { post(1) } else { Frame::data(1, false, b"") }],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "DATA with nothing but padding",
        reference: "CVE-2019-9518",
        role: SERVER,
        step: |n| vec![if n == 0 { post(1) } else { Frame::new(0, 8, 1, [0; 1]) }],
        ends: Violation::Overhead,
        within: 3000,
    },
    Attack {
        name: "PRIORITY",
        reference: "CVE-2019-9513",
        role: SERVER,
        step: |n| vec![Frame::new(2, 0, n % 1000 + 1, [0, 0, 0, 0, 9])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "PRIORITY_UPDATE",
        reference: "RFC 9218 §13.3",
        role: SERVER,
        step: |_| vec![Frame::new(16, 0, 0, *b"\0\0\0\x01u=1")],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "WINDOW_UPDATEs of the connection",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_| vec![Frame::window_update(0, 1)],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "WINDOW_UPDATEs of a stream",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |n| vec![if n == 0 { get(1) } else { Frame::window_update(1, 1) }],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "frames of an unknown type",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_| vec![Frame::new(0xbb, 0, 0, [])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "GOAWAYs",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |_| vec![Frame::new(7, 0, 0, [0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "RST_STREAMs of streams that are over",
        reference: "RFC 9113 §10.5",
        role: SERVER,
        step: |n| if n == 0 { vec![get(1)] } else { vec![Frame::reset(1, 8)] },
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "informational responses",
        reference: "RFC 9113 §10.5",
        role: CLIENT,
        step: |_| vec![Frame::headers(1, false, &[(":status", "103")])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "PINGs of a server",
        reference: "CVE-2019-9512",
        role: CLIENT,
        step: |_| vec![Frame::ping([0; 8])],
        ends: Violation::Overhead,
        within: 12_000,
    },
    Attack {
        name: "a new stream after the last id",
        reference: "RFC 9113 §5.1.1",
        role: SERVER,
        step: |n| vec![get(if n == 0 { 0x7fff_ffff } else { 0x7fff_fffd })],
        ends: Violation::StreamId,
        within: 2,
    },
];

fn continuation(n: u32, payload: &[u8]) -> Frame {
    let kind = if n == 0 { 1 } else { 9 };
    Frame::new(kind, 0, 1, payload)
}

/// Requests that HPACK makes large: an entry that nearly fills the table and then its index over and
/// over (4 KB for each octet), and fields without end.
pub fn header_bombs(first: u32, second: u32) -> [Frame; 2] {
    let mut one = b"\x82\x86\x84\x41\x09a.example\x40\x01x\x7f\xc1\x1e".to_vec();
    one.extend([b'y'; 4032]);
    one.extend([0xbe; 12_000]);
    let mut many = b"\x82\x86\x84\x41\x09a.example".to_vec();
    many.extend(b"\x00\x01a\x01b".repeat(3000));
    [(first, one), (second, many)]
        .map(|(id, block)| Frame::new(1, END_HEADERS | END_STREAM, id, block))
}

/// The honest twin of a bomb: 90 crumbs of cookie among 15 fields.
pub fn crumbs(id: u32) -> Frame {
    let crumbs: Vec<String> = (0..90).map(crumb).collect();
    let names: Vec<String> = (0..15).map(|n| format!("x-field-{n}")).collect();
    let mut fields = REQUEST.to_vec();
    for (n, crumb) in crumbs.iter().enumerate() {
        fields.push(("cookie", crumb));
        if let Some(name) = names.get(n) {
            fields.push((name, "v"));
        }
    }
    Frame::headers(id, true, &fields)
}

/// One of them.
pub fn crumb(n: usize) -> String {
    format!("crumb{n}=value{n}")
}
