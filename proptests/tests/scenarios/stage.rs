//! What a scenario is written in, and what is written down while it is played.

mod http2;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvedge_core::config::{Config, Direction};
use selvedge_core::engine::{Command, Event};
use selvedge_core::error::Reason;
use selvedge_core::stats::{DetectStats, RequestStats, Snapshot};

pub(crate) use self::http2::Fields;
use self::http2::Streams;
use crate::net::{APPS, Arrived, FORWARD, INBOUND, Net, OUTBOUND, Peer};

/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy and its peers, as a scenario sees them. What a peer says and what it must see are
/// steps; every step waits until it is done. A step that cannot be done panics.
pub(crate) struct Stage {
    net: Box<dyn Net>,
    /// By [`Peer`].
    seen: Vec<Seen>,
}

/// What a peer saw.
struct Seen {
    name: String,
    bytes: Vec<u8>,
    /// How much of `bytes` the scenario has looked at.
    looked: usize,
    end: Option<Arrived>,
    closed: bool,
    /// It speaks HTTP/2.
    streams: Option<Box<Streams>>,
}

impl Stage {
    pub(crate) fn new(net: Box<dyn Net>) -> Self {
        Stage { net, seen: Vec::new() }
    }

    // ---- Who is there ----

    /// A client of the outbound listener.
    pub(crate) fn client(&mut self) -> Peer {
        self.client_of(OUTBOUND)
    }

    pub(crate) fn inbound_client(&mut self) -> Peer {
        self.client_of(INBOUND)
    }

    /// A client of the opaque forward.
    pub(crate) fn tcp_client(&mut self) -> Peer {
        self.client_of(FORWARD)
    }

    fn client_of(&mut self, listener: usize) -> Peer {
        let peer = self.net.connect(listener);
        self.meet(peer, format!("client of listener {listener}"))
    }

    /// The next connection to an app.
    pub(crate) fn app(&mut self, app: usize) -> Peer {
        let peer = self.net.accept(app);
        self.meet(peer, format!("app {app}"))
    }

    /// The next connection to one of two apps: which is up to the balancer, and not written down.
    pub(crate) fn either(&mut self, apps: [usize; 2]) -> (usize, Peer) {
        let start = Instant::now();
        loop {
            for app in apps {
                if self.net.has_caller(app) {
                    let peer = self.net.accept(app);
                    return (app, self.meet(peer, format!("one of {apps:?}")));
                }
            }
            assert!(start.elapsed() < PATIENCE, "no connection to {apps:?}");
            self.net.wait(Duration::from_millis(2));
        }
    }

    fn meet(&mut self, peer: Peer, name: String) -> Peer {
        assert_eq!(peer.0, self.seen.len());
        let (bytes, looked, end) = (Vec::new(), 0, None);
        self.seen.push(Seen { name, bytes, looked, end, closed: false, streams: None });
        peer
    }

    pub(crate) fn addr(&self, app: usize) -> SocketAddr {
        self.net.addr(app)
    }

    pub(crate) fn refuse(&mut self, app: usize) {
        self.net.refuse(app);
    }

    // ---- What a peer does ----

    pub(crate) fn send(&mut self, peer: Peer, bytes: impl AsRef<[u8]>) {
        self.net.send(peer, bytes.as_ref());
    }

    /// Half-closes.
    pub(crate) fn finish(&mut self, peer: Peer) {
        self.net.finish(peer);
    }

    pub(crate) fn reset(&mut self, peer: Peer) {
        self.seen[peer.0].closed = true;
        self.net.reset(peer);
    }

    pub(crate) fn close(&mut self, peer: Peer) {
        if !std::mem::replace(&mut self.seen[peer.0].closed, true) {
            self.net.close(peer);
        }
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.net.wait(Duration::from_millis(milliseconds));
    }

    // ---- What a peer must see ----

    /// Exactly these bytes next.
    #[track_caller]
    pub(crate) fn sees(&mut self, peer: Peer, expected: impl AsRef<[u8]>) {
        let expected = expected.as_ref();
        let bytes =
            self.take(peer, |bytes| (bytes.len() >= expected.len()).then_some(expected.len()));
        assert!(bytes == expected, "{:?} instead of {:?}", text(&bytes), text(expected));
    }

    /// A head that starts like this next; returns all of it.
    #[track_caller]
    pub(crate) fn head(&mut self, peer: Peer, start: &str) -> String {
        let head = self.take(peer, |bytes| {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            end.map(|at| at + 4)
        });
        let head = text(&head);
        assert!(head.starts_with(start), "{head:?} instead of {start:?}");
        head
    }

    /// A whole answer with a length next; returns its body.
    #[track_caller]
    pub(crate) fn answer(&mut self, peer: Peer, status: u16) -> String {
        let head = self.head(peer, &format!("HTTP/1.1 {status} "));
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length:").map(|value| value.trim().parse::<usize>().unwrap())
        });
        let length = length.unwrap_or_else(|| panic!("no length in {head:?}"));
        text(&self.take(peer, |bytes| (bytes.len() >= length).then_some(length)))
    }

    /// An answer of the proxy's own: it says why, and that the connection ends, which it does.
    #[track_caller]
    pub(crate) fn refused(&mut self, peer: Peer, status: u16) {
        let head = self.head(peer, &format!("HTTP/1.1 {status} ")).to_lowercase();
        for field in ["l5d-proxy-error: ", "connection: close", "content-length: 0"] {
            assert!(head.contains(&format!("\r\n{field}")), "no {field} in {head:?}");
        }
        self.fin(peer);
    }

    /// Nothing more but a FIN.
    #[track_caller]
    pub(crate) fn fin(&mut self, peer: Peer) {
        self.ends(peer, &Arrived::Fin);
    }

    /// Nothing more but a reset.
    #[track_caller]
    pub(crate) fn rst(&mut self, peer: Peer) {
        self.ends(peer, &Arrived::Reset);
    }

    /// A chunked body next, however it is cut. How it was cut is up to the reads, and is not written
    /// down.
    #[track_caller]
    pub(crate) fn chunks(&mut self, peer: Peer, expected: &[u8]) {
        let start = self.seen[peer.0].looked;
        let mut body = Vec::new();
        loop {
            let line = self.take(peer, |bytes| {
                bytes.windows(2).position(|two| two == b"\r\n").map(|at| at + 2)
            });
            let size = usize::from_str_radix(text(&line).trim_end(), 16).expect("a chunk size");
            let chunk = self.take(peer, |bytes| (bytes.len() >= size + 2).then_some(size + 2));
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
        assert!(body == expected, "{:?} instead of {:?}", text(&body), text(expected));
        let seen = &mut self.seen[peer.0];
        seen.bytes.truncate(start);
        seen.bytes.extend(body);
        seen.looked = seen.bytes.len();
    }

    #[track_caller]
    fn ends(&mut self, peer: Peer, expected: &Arrived) {
        while self.seen[peer.0].end.is_none() {
            self.receive(peer);
        }
        self.skip_pace(peer);
        let seen = &self.seen[peer.0];
        let rest = text(&seen.bytes[seen.looked..]);
        assert!(rest.is_empty(), "{}: {rest:?} instead of an end", seen.name);
        assert_eq!(seen.end.as_ref(), Some(expected), "{}", seen.name);
    }

    /// Waits for as many bytes as `enough` wants.
    #[track_caller]
    fn take(&mut self, peer: Peer, enough: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            let seen = &mut self.seen[peer.0];
            let new = &seen.bytes[seen.looked..];
            if let Some(n) = enough(new) {
                seen.looked += n;
                return seen.bytes[seen.looked - n..seen.looked].to_vec();
            }
            assert!(seen.end.is_none(), "{}: {:?} after {:?}", seen.name, seen.end, text(new));
            self.receive(peer);
        }
    }

    fn receive(&mut self, peer: Peer) {
        let arrived = self.net.receive(peer);
        let seen = &mut self.seen[peer.0];
        match arrived {
            Arrived::Bytes(bytes) => seen.bytes.extend(bytes),
            end => seen.end = Some(end),
        }
    }

    // ---- The operator ----

    pub(crate) fn drain(&mut self) {
        self.net.command(Command::Drain);
        self.event(&Event::Draining);
    }

    pub(crate) fn reload(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = self.net.config().clone();
        change(&mut config);
        let services = config.services.len();
        self.net.command(Command::Reload(Arc::new(config)));
        self.event(&Event::Reloaded { services });
    }

    /// Waits for an event; others may come before it.
    pub(crate) fn event(&mut self, event: &Event) {
        while self.net.event() != *event {}
    }

    /// Waits until the counters say so.
    pub(crate) fn counted(&mut self, what: &str, enough: impl Fn(&Snapshot) -> bool) {
        let start = Instant::now();
        loop {
            match self.net.snapshot() {
                Some(snapshot) if enough(&snapshot) => return,
                Some(_) => assert!(start.elapsed() < PATIENCE, "waited in vain for {what}"),
                None => panic!("the proxy has ended"),
            }
            self.net.wait(Duration::from_millis(2));
        }
    }

    // ---- The end ----

    /// Everybody leaves, clients first; then what everybody saw, and what the proxy counted.
    pub(crate) fn finale(mut self) -> String {
        for left in [|name: &str| name.starts_with("client"), |_: &str| true] {
            for index in 0..self.seen.len() {
                if left(&self.seen[index].name) {
                    self.close(Peer(index));
                }
            }
            if self.net.snapshot().is_some() {
                self.counted("the clients to be gone", |s| s.gauges.accepted == 0);
            }
        }
        let mut report = String::new();
        for seen in &self.seen {
            // What comes of HTTP/2 when nobody looks any more is up to the pace of things.
            match &seen.streams {
                Some(streams) => writeln!(report, "{}: {}", seen.name, streams.log),
                None => writeln!(report, "{}: {} {:?}", seen.name, text(&seen.bytes), seen.end),
            }
            .expect("a string takes everything");
        }
        if self.net.snapshot().is_some() {
            self.counted("nothing to be left", |s| s.gauges.connections == 0);
        }
        // Without one it was drained, and its counters went with it.
        if let Some(snapshot) = self.net.snapshot() {
            for (name, count) in counters(&snapshot) {
                let _ = writeln!(report, "{name} = {count}");
            }
        }
        // A destination without a name is counted under its address.
        for app in 0..APPS {
            report = report.replace(&self.addr(app).to_string(), &format!("app {app}"));
        }
        report
    }
}

/// Long ones are told apart by their length and a hash.
fn text(bytes: &[u8]) -> String {
    if bytes.len() > 4096 {
        let hash = bytes.iter().fold(17_u64, |h, &b| h.wrapping_mul(31).wrapping_add(b.into()));
        return format!("{} bytes with hash {hash:x}", bytes.len());
    }
    String::from_utf8_lossy(bytes).into_owned()
}

/// The counters that are not zero. Those of time, and of which of two endpoints was chosen, are up
/// to the run.
fn counters(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for direction in Direction::ALL {
        let stats = &snapshot.directions[direction as usize];
        let name = direction.label();
        all.insert(format!("{name} opens"), stats.accepted.opens);
        all.insert(format!("{name} closes"), stats.accepted.closes);
        all.insert(format!("{name} requests"), stats.requests);
        all.insert(format!("{name} trailers dropped"), stats.trailers_dropped);
        for (&reason, &count) in Reason::ALL.iter().zip(&stats.refused) {
            all.insert(format!("{name} refused {}", reason.label()), count);
        }
        let DetectStats { http1, http2, tls, opaque, timeout, skipped, .. } = stats.detect;
        for (found, count) in [
            ("http1", http1),
            ("http2", http2),
            ("tls", tls),
            ("opaque", opaque),
            ("timeout", timeout),
            ("skipped", skipped),
        ] {
            all.insert(format!("{name} detected {found}"), count);
        }
    }
    for service in &snapshot.services {
        let name = &service.name;
        let RequestStats { requests, responses, failures, replays, tcp, .. } = &service.stats;
        all.insert(format!("{name} requests"), *requests);
        all.insert(format!("{name} failures"), *failures);
        all.insert(format!("{name} replays"), *replays);
        all.insert(format!("{name} connections"), tcp.opens);
        for (class, &count) in (1..).zip(responses) {
            all.insert(format!("{name} responses {class}xx"), count);
        }
    }
    all.retain(|_, &mut count| count != 0);
    all
}
