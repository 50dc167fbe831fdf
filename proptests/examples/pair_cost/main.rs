//! A pair of engines with mutual TLS by rustls between them, or without, and what an app's call through
//! both costs: for counting instructions and allocations.
//!
//! `pair_cost [plain] record FROM TO STREAMS COUNT FILE` and `pair_cost [plain] replay TO FILE`, as
//! `hop_cost` of the core, whose peers it has: the bytes of clients and apps are recorded, those
//! between the two engines are made each time. `pair_cost tunnel COUNT` sends so many MiB through an
//! opaque connection; `pair_cost idle N` ends with N such connections in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{env, fs, process};

use hop::Hop;
use record::{Talk, Through, is_http2, number};
use selvedge_core::config::{
    Allow, Config, Identity, InboundPort, Listener, ListenerKind, Meshed, Protocol,
};
use selvedge_core::engine::{ConnId, Input};
use selvedge_core::identity::Update;
use selvedge_core::time::{Duration, Time};
use selvedge_proptests::tls::{CLIENT, NOW, RUSTLS, SERVER, name};

#[path = "../../../core/examples/common/hop.rs"]
mod hop;
#[path = "../../../core/examples/common/peer.rs"]
mod peer;
#[path = "../../../core/examples/common/record.rs"]
mod record;

const SERVICE: &str = "greeter.example:80";

/// A client's proxy and an app's.
struct Pair {
    ends: [Hop; 2],
    /// Connections between them, by their names on either side.
    links: Vec<[ConnId; 2]>,
    /// Those to clients and apps, and whose they are.
    outer: Vec<(usize, ConnId)>,
    /// How many of each one's connections are told apart.
    known: [usize; 2],
    keeps: bool,
    wrote: BTreeMap<usize, Vec<u8>>,
    total: usize,
}

impl Pair {
    fn new(to_http2: bool, meshed: bool, opaque: bool) -> Pair {
        let protocol = if to_http2 || meshed { Protocol::Auto } else { Protocol::Http1 };
        let mut service = hop::service(SERVICE, protocol, 1);
        service.opaque = opaque;
        if meshed {
            service.endpoints[0].mesh = Some(Meshed::new(name(SERVER), Some(8080)));
        } else if to_http2 {
            service.protocol = Protocol::Http2;
        }
        let mut out = hop::outbound(vec![service]);
        if opaque {
            out.listeners[0].kind = ListenerKind::Forward(SERVICE.into());
        }
        let inbound = Listener { addr: ([127, 0, 0, 1], 4143).into(), kind: ListenerKind::Inbound };
        let allow = if meshed { CLIENT } else { "unauthenticated" };
        let mut inn = Config {
            listeners: vec![inbound],
            app: Some(([127, 0, 0, 1], 8080).into()),
            inbound: vec![InboundPort::new(8080, vec![Allow::parse(allow).expect("a rule")])],
            ..Config::default()
        };
        if meshed {
            out.identity = Some(Identity::new(name(CLIENT)));
            inn.identity = Some(Identity::new(name(SERVER)));
        }
        let mut ends = [out, inn].map(Hop::new);
        for (at, end) in ends.iter_mut().enumerate() {
            end.keeps = true;
            if !meshed {
                continue;
            }
            end.input(Input::WallClock(NOW));
            end.input(Input::Identity(Ok(Update {
                provider: Arc::new(RUSTLS[at].clone()),
                name: name([CLIENT, SERVER][at]),
                not_before: NOW,
                not_after: NOW + Duration::from_hours(24),
            })));
        }
        Pair {
            ends,
            links: Vec::new(),
            outer: Vec::new(),
            known: [0, 0],
            keeps: false,
            wrote: BTreeMap::new(),
            total: 0,
        }
    }

    fn accept(&mut self) {
        let client = self.ends[0].accept(0);
        self.outer.push((0, client));
        self.carry();
    }

    /// Until neither end has anything for the other.
    fn carry(&mut self) {
        loop {
            self.meet();
            let mut crossed = false;
            for from in [0, 1] {
                let sent = std::mem::take(&mut self.ends[from].sent);
                let mut pieces = std::mem::take(&mut self.ends[from].pieces);
                let mut rest = &sent[..];
                for (conn, n) in pieces.drain(..) {
                    let (piece, after) = rest.split_at(n);
                    rest = after;
                    if let Some(link) = self.links.iter().find(|link| link[from] == conn) {
                        let to = link[1 - from];
                        piece.chunks(32 * 1024).for_each(|part| self.ends[1 - from].read(to, part));
                        crossed = true;
                    } else {
                        self.deliver(from, conn, piece);
                    }
                }
                self.reuse(from, sent, pieces);
            }
            if !crossed {
                return;
            }
        }
    }

    /// Buffers are used again, unless somebody wrote in the meantime.
    fn reuse(&mut self, from: usize, mut sent: Vec<u8>, pieces: Vec<(ConnId, usize)>) {
        let end = &mut self.ends[from];
        if end.sent.is_empty() {
            sent.clear();
            (end.sent, end.pieces) = (sent, pieces);
        }
    }

    /// Tells apart what either end has connected to since.
    fn meet(&mut self) {
        while let Some(&up) = self.ends[0].conns.get(self.known[0]) {
            self.known[0] += 1;
            if !self.outer.contains(&(0, up)) {
                let down = self.ends[1].accept(0);
                self.links.push([up, down]);
            }
        }
        while let Some(&conn) = self.ends[1].conns.get(self.known[1]) {
            self.known[1] += 1;
            if !self.links.iter().any(|link| link[1] == conn) {
                self.outer.push((1, conn));
            }
        }
    }

    fn deliver(&mut self, end: usize, conn: ConnId, bytes: &[u8]) {
        self.total += bytes.len();
        if self.keeps {
            // An app is met with the first bytes for it.
            self.meet();
            let at = self.outer.iter().position(|&outer| outer == (end, conn)).expect("known");
            self.wrote.entry(at).or_default().extend_from_slice(bytes);
        }
    }
}

impl Through for Pair {
    fn now(&self) -> Time {
        self.ends[0].now
    }

    fn connections(&self) -> usize {
        self.outer.len()
    }

    fn read(&mut self, at: usize, bytes: &[u8]) {
        let (end, conn) = self.outer[at];
        self.ends[end].read(conn, bytes);
        self.carry();
    }

    fn wrote(&mut self) -> BTreeMap<usize, Vec<u8>> {
        std::mem::take(&mut self.wrote)
    }

    fn total(&self) -> usize {
        self.total
    }
}

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (meshed, args) = match &args[..] {
        ["plain", rest @ ..] => (false, rest),
        all => (true, all),
    };
    match *args {
        ["record", from, to, streams, count, file] => {
            let (from_http2, to_http2) = (is_http2(from), is_http2(to));
            let (streams, count) = (number(streams), number(count));
            let talk = Talk { from_http2, to_http2, clients: 1, streams, count };
            let mut pair = Pair::new(to_http2, meshed, false);
            pair.keeps = true;
            pair.accept();
            fs::write(file, record::record(&mut pair, talk)).expect("cannot write");
        }
        ["replay", to, file] => {
            let log = fs::read(file).expect("cannot read");
            let mut pair = Pair::new(is_http2(to), meshed, false);
            pair.accept();
            record::replay(&mut pair, &log);
            assert!(pair.total > log.len() / 2, "all of it was forwarded");
        }
        ["tunnel", count] => {
            let mut pair = Pair::new(false, meshed, true);
            pair.accept();
            let block = vec![b'x'; 32 * 1024];
            for _ in 0..number(count) * 32 {
                pair.read(0, &block);
            }
            assert_eq!(pair.total, number(count) << 20, "all of it was forwarded");
        }
        ["idle", n] => {
            let mut pair = Pair::new(false, meshed, true);
            for at in 0..number(n) {
                pair.accept();
                let client = pair.outer.iter().rposition(|outer| outer.0 == 0).expect("accepted");
                pair.read(client, b"hello");
                assert_eq!(pair.total, 5 * (at + 1), "it was forwarded");
            }
            process::exit(0);
        }
        _ => panic!(
            "[plain] record FROM TO STREAMS COUNT FILE, replay TO FILE, tunnel COUNT or idle N"
        ),
    }
}
