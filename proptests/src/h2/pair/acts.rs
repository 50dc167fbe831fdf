//! What the two sides do.

use std::fmt::Write;

use selvedge_core::http2::ErrorCode;
use selvedge_core::time::Duration;

use super::super::end::End;
use super::super::wire::Frame;
use super::{CLIENT, Exchange, Half, Pair, SERVER, content};
use crate::choose::{Choose, pick};

impl Pair<'_> {
    pub(super) fn open(&mut self) {
        // Before the server's SETTINGS came, its limits are not known.
        let limited = self.config.settings.max_concurrent_streams < Some(100);
        if limited && !self.ends[CLIENT].connection.is_ready() {
            return;
        }
        let id = self.exchanges.len() as u32 * 2 + 1;
        let method = pick(self.choose, &["GET", "POST", "HEAD", "PUT"]);
        let end = self.choose.flip();
        let length = (!end && self.choose.flip()).then(|| self.choose.below(self.largest()));
        let fields = fields(self.choose);
        let mut lines = fields.clone();
        let (framing, shown) = match length {
            _ if end => ("None", String::new()),
            Some(length) => {
                let _ = write!(lines, "Content-Length: {length}\r\n");
                ("", format!(", content-length: {length}"))
            }
            None => {
                lines.push_str("Transfer-Encoding: chunked\r\n");
                ("Chunked", ", Transfer-Encoding: chunked".to_owned())
            }
        };
        let head = format!("{method} /{id} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let client = &mut self.ends[CLIENT];
        let room = client.connection.capacity();
        let key = client.ask(head.as_bytes(), end);
        assert_eq!(key.is_some(), room > 0, "capacity and what is opened differ");
        let Some(key) = key else { return };
        assert_eq!(key.id, id);
        let framing = length.map_or(framing.to_owned(), |length| format!("Length({length})"));
        let ended = if end { " end" } else { "" };
        let seen = seen_fields(&fields);
        let line = format!(
            "request {id} {method} /{id} {{Host: a.example{seen}{shown}}} {framing}{ended}"
        );
        let request = Half {
            heads: vec![line],
            begun: true,
            promised: length,
            ended: end,
            ..Half::default()
        };
        let exchange = Exchange {
            key,
            at_server: None,
            is_head: method == "HEAD",
            request,
            response: Half::default(),
            reset: false,
            unreleased: [0; 2],
        };
        self.exchanges.insert(id, exchange);
        self.tally.requests += 1;
    }

    /// Any exchange that is still under way.
    fn some(&mut self) -> Option<u32> {
        let open: Vec<u32> = self.open_ids();
        (!open.is_empty()).then(|| open[open.len() - 1 - self.choose.below(open.len())])
    }

    pub(super) fn open_ids(&self) -> Vec<u32> {
        let open = |exchange: &&Exchange| {
            let whole = exchange.request.got_end && exchange.response.got_end;
            !exchange.reset && !whole
        };
        self.exchanges.values().filter(open).map(|exchange| exchange.key.id).collect()
    }

    pub(super) fn respond(&mut self) -> Result<(), String> {
        let Some(id) = self.some() else { return Ok(()) };
        let interim = self.choose.one_in(4);
        let end = !interim && self.choose.flip();
        let fields = fields(self.choose);
        let length =
            (!end && !interim && self.choose.flip()).then(|| self.choose.below(self.largest()));
        let status = if interim { 103 } else { pick(self.choose, &[200, 404, 418]) };
        let exchange = self.exchanges.get_mut(&id).ok_or("nobody")?;
        let Some(key) = exchange.at_server.filter(|_| !exchange.response.begun) else {
            return Ok(());
        };
        let end = end || (exchange.is_head && !interim);
        let (lines, shown) = match length.filter(|_| !end) {
            Some(length) => (
                format!("{fields}Content-Length: {length}\r\n"),
                format!("content-length: {length}"),
            ),
            None => (fields.clone(), String::new()),
        };
        let half = &mut exchange.response;
        half.begun = !interim;
        half.promised = length.filter(|_| !end);
        half.ended = end;
        let head = format!("HTTP/1.1 {status} X\r\n{lines}\r\n");
        self.ends[SERVER].answer(key, head.as_bytes(), end);
        let framing = match half.promised {
            _ if interim || exchange.is_head => "None".to_owned(),
            _ if end => "Length(0)".to_owned(),
            Some(length) => format!("Length({length})"),
            None => "Chunked".to_owned(),
        };
        let seen = format!("{}, {shown}", seen_fields(&fields));
        let seen = seen.trim_matches([',', ' ']);
        let ended = if end { " end" } else { "" };
        half.heads.push(format!("response {id} {status} {{{seen}}} {framing}{ended}"));
        Ok(())
    }

    /// One side adds to a body.
    pub(super) fn send(&mut self) -> Result<(), String> {
        let n = match self.choose.below(3) {
            0 => self.choose.below(10),
            1 => self.choose.below(2000),
            _ => self.choose.below(50_000),
        };
        let n = n.min(self.largest());
        let Some(id) = self.some() else { return Ok(()) };
        let side = self.choose.below(2);
        self.put(side, id, n, false)
    }

    pub(super) fn put(&mut self, side: usize, id: u32, n: usize, end: bool) -> Result<(), String> {
        let exchange = self.exchanges.get_mut(&id).ok_or("nobody")?;
        let (key, half) = match side {
            CLIENT => (Some(exchange.key), &mut exchange.request),
            _ => (exchange.at_server, &mut exchange.response),
        };
        let Some(key) = key.filter(|_| half.begun && !half.ended) else { return Ok(()) };
        let n = half.promised.map_or(n, |left| if end { left } else { n.min(left) });
        let bytes = content(id, 1 - side, half.body, n);
        if !self.ends[side].put(key, &bytes, end) {
            return if exchange.reset { Ok(()) } else { Err(format!("stream {id} takes nothing")) };
        }
        half.body += n;
        half.promised = half.promised.map(|left| left - n);
        half.ended = end;
        Ok(())
    }

    /// One side ends a message, with trailers or without.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let Some(id) = self.some() else { return Ok(()) };
        let side = self.choose.below(2);
        if self.choose.flip() {
            return self.put(side, id, 0, true);
        }
        // What was promised comes first.
        self.put(side, id, self.largest(), false)?;
        let exchange = self.exchanges.get_mut(&id).ok_or("nobody")?;
        let (key, half) = match side {
            CLIENT => (Some(exchange.key), &mut exchange.request),
            _ => (exchange.at_server, &mut exchange.response),
        };
        let Some(key) = key.filter(|_| half.begun && !half.ended && !exchange.reset) else {
            return Ok(());
        };
        self.ends[side]
            .trail(key, format!("x-sum: {id}\r\n\r\n").as_bytes())
            .map_err(|reason| reason.message().to_owned())?;
        half.trailers = Some(format!("trailers {id} {{x-sum: {id}}}"));
        half.ended = true;
        Ok(())
    }

    /// What was received has gone on.
    pub(super) fn release(&mut self) {
        let open: Vec<u32> = self.exchanges.keys().copied().collect();
        if open.is_empty() {
            return;
        }
        let id = open[open.len() - 1 - self.choose.below(open.len())];
        let (side, all, grows) = (self.choose.below(2), self.choose.flip(), self.choose.flip());
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let unreleased = exchange.unreleased[side];
        let n = if all { unreleased } else { self.choose.below(unreleased + 1) };
        exchange.unreleased[side] -= n;
        let key = if side == CLIENT { Some(exchange.key) } else { exchange.at_server };
        if let Some(key) = key {
            let End { connection, tx, .. } = &mut self.ends[side];
            connection.release(tx, key, n, grows);
        }
    }

    pub(super) fn reset(&mut self) {
        let Some(id) = self.some() else { return };
        let side = self.choose.below(2);
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let key = if side == CLIENT { Some(exchange.key) } else { exchange.at_server };
        let Some(key) = key else { return };
        exchange.reset = true;
        self.ends[side].reset(key, ErrorCode::CANCEL);
        self.tally.resets += 1;
    }

    /// The link makes one side's windows other than that side knows. Never larger: the side would
    /// find that more was sent than it allowed.
    pub(super) fn resize(&mut self) {
        let to = self.choose.below(2);
        if !self.ends[1 - to].connection.is_ready() || self.wires[1 - to].made_up == 0 {
            return;
        }
        let most = self.config.settings.initial_window_size as usize;
        let window = self.choose.below(most + 1) as u32;
        self.inject(to, window);
    }

    pub(super) fn inject(&mut self, to: usize, window: u32) {
        self.load(1 - to);
        let wire = &mut self.wires[to];
        wire.window = Some(window);
        Frame::settings(&[(4, window)]).write(&mut wire.bytes);
        self.tally.settings += 1;
    }

    /// PING, a frame of an unknown type, PRIORITY, the passage of time, rarely a farewell.
    pub(super) fn small_things(&mut self) {
        let side = self.choose.below(2);
        match self.choose.below(5) {
            0 => {
                let now = self.ends[side].now + Duration::from_millis(1);
                self.ends[side].wait_until(now);
            }
            1 => {
                self.load(1 - side);
                Frame::new(0xbb, 0xff, 7, [1; 30]).write(&mut self.wires[side].bytes);
            }
            2 => {
                self.load(1 - side);
                Frame::new(2, 0, 1, [0; 5]).write(&mut self.wires[side].bytes);
            }
            3 if self.choose.one_in(10) => {
                let End { connection, tx, now, .. } = &mut self.ends[side];
                connection.shut_down(tx, *now);
                self.tally.farewells += u64::from(!self.going);
                self.going = true;
            }
            _ => {
                let End { connection, tx, now, .. } = &mut self.ends[side];
                connection.keep_alive(tx, *now);
            }
        }
    }
}

/// Some field lines.
fn fields(choose: &mut dyn Choose) -> String {
    let mut lines = String::new();
    for _ in 0..choose.below(4) {
        let name = pick(choose, &["x-a", "accept", "user-agent", "x-request-id", "cache-control"]);
        let value = pick(choose, &["b", "", "one, two", "0123456789abcdef", "{}"]);
        let number = choose.below(5);
        let _ = write!(lines, "{name}: {value}{number}\r\n");
    }
    lines
}

/// As the receiver shows them: each after a comma.
fn seen_fields(lines: &str) -> String {
    let mut out = String::new();
    for line in lines.lines() {
        let _ = write!(out, ", {line}");
    }
    out
}
