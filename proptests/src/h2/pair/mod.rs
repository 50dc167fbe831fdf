//! A client and a server of ours that talk through a link that cuts, reshapes and delays.
//!
//! Requests, bodies in both directions, trailers, informational responses, resets, credit given back
//! late, windows made smaller and larger, and farewells, in any order; in the end everything that
//! was not reset arrived as it was sent, nothing is left over, and no credit was lost.

mod acts;
mod link;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use selvedge_core::http2::{Config, Role, StreamKey};

use super::end::End;
use crate::choose::{Choose, pick, weighted};

/// What has happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that were sent.
    pub requests: u64,
    /// Exchanges that arrived whole, both ways.
    pub complete: u64,
    /// Streams that were reset.
    pub resets: u64,
    /// Body bytes that arrived.
    pub bytes: u64,
    /// Sections of trailers that arrived.
    pub trailers: u64,
    /// SETTINGS that changed windows.
    pub settings: u64,
    /// Farewells.
    pub farewells: u64,
}

impl Tally {
    /// Adds another run.
    pub fn add(&mut self, other: &Tally) {
        self.requests += other.requests;
        self.complete += other.complete;
        self.resets += other.resets;
        self.bytes += other.bytes;
        self.trailers += other.trailers;
        self.settings += other.settings;
        self.farewells += other.farewells;
    }
}

/// One direction of an exchange.
#[derive(Debug, Default)]
struct Half {
    /// What the receiver has to see of heads …
    heads: Vec<String>,
    /// … and what it has seen.
    got_heads: Vec<String>,
    /// The final head was sent.
    begun: bool,
    body: usize,
    got_body: usize,
    /// What Content-Length still promises.
    promised: Option<usize>,
    trailers: Option<String>,
    got_trailers: Option<String>,
    ended: bool,
    got_end: bool,
}

#[derive(Debug)]
struct Exchange {
    key: StreamKey,
    /// At the server; `None` until the request arrives.
    at_server: Option<StreamKey>,
    is_head: bool,
    request: Half,
    response: Half,
    reset: bool,
    /// Body bytes that were received and not released: at the client, at the server.
    unreleased: [usize; 2],
}

/// One direction of the link.
#[derive(Debug, Default)]
struct Wire {
    bytes: Vec<u8>,
    /// Acknowledgements of SETTINGS that the link made up: they do not arrive.
    made_up: usize,
    /// The last INITIAL_WINDOW_SIZE that it made up.
    window: Option<u32>,
}

/// The whole.
struct Pair<'c> {
    choose: &'c mut dyn Choose,
    ends: [End; 2],
    /// To the client, to the server.
    wires: [Wire; 2],
    exchanges: BTreeMap<u32, Exchange>,
    config: Config,
    going: bool,
    tally: Tally,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Runs one script of at most `steps` steps.
///
/// # Errors
/// What does not hold.
pub fn run(choose: &mut dyn Choose, steps: usize) -> Result<Tally, String> {
    let mut config = Config::default();
    config.settings.initial_window_size = pick(choose, &[16_384, 1, 100, 65_535, 200_000]);
    config.max_stream_window = pick(choose, &[1 << 20, 1, 30_000]);
    config.max_growth = pick(choose, &[2 << 20, 0, 5000]);
    config.connection_window = pick(choose, &[1 << 20, 65_535]);
    config.settings.max_concurrent_streams = Some(pick(choose, &[1024, 3]));
    config.settings.header_table_size = pick(choose, &[4096, 0, 100]);
    config.encoder_table = pick(choose, &[4096, 0, 64]);
    let mut pair = Pair {
        choose,
        ends: [End::new(Role::Client, config.clone()), End::new(Role::Server, config.clone())],
        wires: Default::default(),
        exchanges: BTreeMap::new(),
        config,
        going: false,
        tally: Tally::default(),
    };
    for _ in 0..steps {
        if pair.choose.is_exhausted() {
            break;
        }
        pair.step()?;
        pair.check()?;
    }
    pair.heal()?;
    Ok(pair.tally)
}

impl Pair<'_> {
    fn step(&mut self) -> Result<(), String> {
        match weighted(self.choose, &[6, 4, 8, 3, 6, 2, 1, 1, 1]) {
            0 => self.carry(),
            1 => {
                self.open();
                Ok(())
            }
            2 => self.send(),
            3 => self.respond(),
            4 => {
                self.release();
                Ok(())
            }
            5 => self.end(),
            6 => {
                self.reset();
                Ok(())
            }
            7 => {
                self.resize();
                Ok(())
            }
            _ => {
                self.small_things();
                Ok(())
            }
        }
    }

    /// Bodies are no longer: tiny windows take a round trip for each few bytes.
    fn largest(&self) -> usize {
        30_000.min(30 * self.config.settings.initial_window_size as usize)
    }

    // ---- What has to hold ----

    fn check(&self) -> Result<(), String> {
        for end in &self.ends {
            end.connection.check_invariants()?;
        }
        let quiet = self.wires.iter().all(|wire| wire.bytes.is_empty())
            && self.ends.iter().all(|end| end.rx.is_empty() && end.tx.unsent() == 0);
        if quiet && self.ends.iter().all(|end| end.connection.is_ready()) {
            self.check_credit(None)?;
            // The acknowledgement of the greeting makes both sides agree about streams, too.
            let plain = |wire: &Wire| wire.made_up > 0 && wire.window.is_none();
            for exchange in self.exchanges.values().filter(|_| self.wires.iter().all(plain)) {
                if let Some(at_server) = exchange.at_server {
                    self.check_credit(Some((exchange.key, at_server)))?;
                }
            }
        }
        Ok(())
    }

    /// What one side may send is what the other expects.
    fn check_credit(&self, stream: Option<(StreamKey, StreamKey)>) -> Result<(), String> {
        let (at_client, at_server) = stream.unzip();
        let client = self.ends[CLIENT].connection.credit(at_client);
        let server = self.ends[SERVER].connection.credit(at_server);
        match (client, server) {
            (Some((up, down)), Some((down_too, up_too))) if (up, down) != (up_too, down_too) => {
                Err(format!("{stream:?}: {up} and {up_too} up, {down} and {down_too} down"))
            }
            _ => Ok(()),
        }
    }

    /// The link carries everything, and both sides finish what they began.
    fn heal(&mut self) -> Result<(), String> {
        self.quiet()?;
        let window = self.config.settings.initial_window_size;
        for to in [CLIENT, SERVER] {
            if self.wires[to].window.is_some() {
                self.inject(to, window);
            }
        }
        self.quiet()?;
        for id in self.open_ids() {
            self.put(CLIENT, id, 0, true)?;
            let exchange = &self.exchanges[&id];
            if !exchange.response.begun && !exchange.reset {
                let key = exchange.at_server.ok_or_else(|| format!("request {id} was lost"))?;
                self.ends[SERVER].answer(key, b"HTTP/1.1 200 X\r\n\r\n", true);
                let framing = if exchange.is_head { "None" } else { "Length(0)" };
                let half = &mut self.exchanges.get_mut(&id).ok_or("nobody")?.response;
                half.heads.push(format!("response {id} 200 {{}} {framing} end"));
                (half.begun, half.ended) = (true, true);
            }
            self.put(SERVER, id, 0, true)?;
        }
        self.quiet()?;
        self.check()?;
        for exchange in self.exchanges.values() {
            let whole = arrived(&exchange.request, exchange.reset)?
                & arrived(&exchange.response, exchange.reset)?;
            self.tally.complete += u64::from(whole && !exchange.reset);
        }
        self.nothing_is_left()
    }

    /// Carries and releases until nothing moves.
    fn quiet(&mut self) -> Result<(), String> {
        loop {
            let mut moved = false;
            for to in [CLIENT, SERVER] {
                self.load(1 - to);
                let n = self.wires[to].bytes.len();
                moved |= n > 0;
                self.deliver(to, n)?;
                for exchange in self.exchanges.values_mut() {
                    let n = std::mem::take(&mut exchange.unreleased[to]);
                    let key = if to == CLIENT { Some(exchange.key) } else { exchange.at_server };
                    let End { connection, tx, .. } = &mut self.ends[to];
                    if let Some(key) = key {
                        connection.release(tx, key, n, true);
                    }
                }
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn nothing_is_left(&mut self) -> Result<(), String> {
        for end in &mut self.ends {
            while end.connection.poll_progress().is_some() {}
            let connection = &end.connection;
            let left = (connection.open_streams(), connection.held(), connection.queued());
            if left != (0, 0, 0) {
                return Err(format!("{:?}: {left:?} is left", connection.role()));
            }
            if self.going && !connection.is_over() {
                return Err(format!("{:?} is not over after a farewell", connection.role()));
            }
            // Two tables of 4 KiB, what they are indexed by, and lists that were in use.
            let heap = connection.heap_bytes();
            if heap > 24 * 1024 {
                return Err(format!("{:?} holds {heap} bytes", connection.role()));
            }
        }
        Ok(())
    }
}

/// Has everything arrived, in order, once? `reset`: or the beginning of it.
fn arrived(half: &Half, reset: bool) -> Result<bool, String> {
    let heads = half.heads.starts_with(&half.got_heads);
    let trailers = half.got_trailers.is_none() || half.got_trailers == half.trailers;
    let whole = half.heads.len() == half.got_heads.len()
        && half.body == half.got_body
        && half.trailers == half.got_trailers
        && half.ended
        && half.got_end;
    let order = half.got_body <= half.body && (!half.got_end || whole);
    if heads && trailers && order && (whole || reset) {
        Ok(whole)
    } else {
        Err(format!("{half:#?}"))
    }
}

/// The bytes of a body from some place on: no two bodies begin in the same way.
fn content(id: u32, to: usize, from: usize, n: usize) -> Vec<u8> {
    /// Prime, so that no power of two is a period.
    const PERIOD: usize = 8191;
    static PATTERN: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..PERIOD).map(|at| (at * 31) as u8 ^ (at >> 8) as u8).collect());
    let mut bytes = Vec::with_capacity(n);
    let mut at = (from + id as usize * 7 + to) % PERIOD;
    while bytes.len() < n {
        let piece = &PATTERN[at..];
        bytes.extend_from_slice(&piece[..piece.len().min(n - bytes.len())]);
        at = 0;
    }
    bytes
}
