//! Byte tunnels whose adapter lets some of the bytes pass unseen, through pipes: whatever it reads,
//! splices and writes, in whatever pieces and order, the same bytes arrive as with an adapter that
//! has no pipes, in order, and each FIN behind the last of them.
//!
//! `SELVEDGE_SEEDS=100000` runs more of them, `SELVEDGE_SEED=7` only that one.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use selvedge_core::config::{Config, Endpoint, Listener, ListenerKind, Service, Target};
use selvedge_core::engine::{Accepted, CloseKind, ConnId, Engine, Input, Output};
use selvedge_core::error::IoError;
use selvedge_core::limits::Limits;
use selvedge_core::rng::Seed;
use selvedge_core::stats::Snapshot;
use selvedge_core::time::{Duration, Time};
use selvedge_proptests::choose::{Choose, Seeded, weighted};
use selvedge_proptests::seeds::{self, Running};

/// What an end sends: the period is a prime, so that no block repeats it.
struct Text(Vec<u8>);

impl Text {
    const PERIOD: usize = 251;

    fn of(end: usize) -> Self {
        let byte = |at| (at % Self::PERIOD) as u8 ^ (end as u8) << 7;
        Text((0..Limits::BULK_BLOCK + Self::PERIOD).map(byte).collect())
    }

    /// So much of it, from there.
    fn at(&self, at: usize, n: usize) -> &[u8] {
        &self.0[at % Self::PERIOD..][..n]
    }
}

/// One end of the tunnel, seen from its peer.
struct End {
    conn: ConnId,
    /// What its peer sends …
    text: Text,
    /// … how much of it …
    total: usize,
    /// … how much of that was read …
    read: usize,
    /// … and its FIN was.
    read_closed: bool,
    /// It was read in this turn: the budget does not know of that.
    was_read: bool,
    /// How much its peer got, of what the other sends.
    got: usize,
    /// Read at the other end and not seen by the engine.
    pipe: BytesMut,
    /// How much its socket takes.
    room: usize,
    closed: Vec<CloseKind>,
}

struct Tunnel {
    engine: Engine,
    now: Time,
    ends: [End; 2],
    /// It has pipes.
    splices: bool,
    spliced: usize,
    /// Pipes that were taken back.
    unspliced: usize,
}

fn config(buffer_bytes: usize) -> Config {
    let target = Target::Addr(([10, 0, 0, 1], 5432).into());
    let endpoint = Endpoint { target, weight: 1, mesh: None, zone: None };
    let mut config = Config {
        listeners: vec![Listener {
            addr: ([127, 0, 0, 1], 5432).into(),
            kind: ListenerKind::Forward("db".into()),
        }],
        services: vec![Service {
            name: "db".into(),
            endpoints: vec![endpoint],
            ..Service::default()
        }],
        ..Config::default()
    };
    config.limits.buffer_bytes = buffer_bytes;
    config
}

impl Tunnel {
    fn new(choose: &mut dyn Choose, splices: bool) -> Self {
        // At times so little that one pipe is enough for the worker.
        let buffer_bytes = if choose.one_in(4) { 512 << 10 } else { 256 << 20 };
        let mut engine =
            Engine::new(Arc::new(config(buffer_bytes)), Seed::from_number(1), Time::ZERO);
        let accepted = Accepted {
            listener: 0,
            peer: ([127, 0, 0, 1], 40_000).into(),
            local: ([127, 0, 0, 1], 5432).into(),
            original_dst: None,
        };
        let now = Time::ZERO;
        let down = engine.accept(now, accepted).expect("room for one");
        engine.end_turn(now);
        let connect = std::iter::from_fn(|| engine.poll_output()).find_map(|output| match output {
            Output::Connect { conn, .. } => Some(conn),
            _ => None,
        });
        let up = connect.expect("it connects");
        let result = Ok(([127, 0, 0, 1], 50_000).into());
        engine.handle_input(now, Input::Connected { conn: up, result });
        let ends = [0, 1].map(|end| End {
            conn: [down, up][end],
            text: Text::of(end),
            total: [0, 1000, 300_000, 2 << 20][choose.below(4)],
            read: 0,
            read_closed: false,
            was_read: false,
            got: 0,
            pipe: BytesMut::new(),
            room: usize::MAX,
            closed: Vec::new(),
        });
        let mut tunnel = Tunnel { engine, now, ends, splices, spliced: 0, unspliced: 0 };
        tunnel.turn();
        tunnel
    }

    fn input(&mut self, input: Input) {
        self.engine.handle_input(self.now, input);
    }

    fn turn(&mut self) {
        self.ends.iter_mut().for_each(|end| end.was_read = false);
        let mut told = true;
        while std::mem::take(&mut told) {
            self.engine.end_turn(self.now);
            while let Some(output) = self.engine.poll_output() {
                match output {
                    Output::Flush(conn) => told |= self.write(self.end(conn), usize::MAX),
                    Output::Close { conn, how } => {
                        let end = self.end(conn);
                        let to = &mut self.ends[end];
                        to.closed.push(how);
                        if how != CloseKind::Abort {
                            assert_eq!(to.pipe.len(), 0, "closed before all was written");
                            let (got, from) = (self.ends[end].got, &self.ends[1 - end]);
                            assert_eq!(
                                (got, from.read_closed),
                                (from.total, true),
                                "a FIN too early"
                            );
                        }
                    }
                    Output::Connect { .. } | Output::Resolve { .. } | Output::Certify => {
                        panic!("{output:?}")
                    }
                    Output::ReadReady(_) | Output::Event(_) => {}
                }
            }
        }
        self.engine.check_invariants().expect("what holds between turns");
    }

    fn end(&self, conn: ConnId) -> usize {
        self.ends.iter().position(|end| end.conn == conn).expect("one of the two")
    }

    /// Writes at most so much, and as much as the socket takes. True if the engine was told.
    fn write(&mut self, end: usize, most: usize) -> bool {
        let mut left = most.min(self.ends[end].room);
        let mut told = false;
        while left > 0 {
            let mut io = [&[][..]; 4];
            let slices = self.engine.write_bufs(self.ends[end].conn, &mut io);
            let pipe = &mut self.ends[end].pipe;
            assert!(pipe.is_empty() || slices == 0, "what is written next is in the pipe");
            let first = if pipe.is_empty() { io[0] } else { &pipe[..] };
            let n = first.len().min(left).min(Limits::BULK_BLOCK);
            if n == 0 {
                return told;
            }
            let first = BytesMut::from(&first[..n]);
            pipe.advance(n.min(pipe.len()));
            let [down, up] = &mut self.ends;
            let (to, from) = if end == 0 { (down, up) } else { (up, down) };
            assert!(first == from.text.at(to.got, n), "other bytes from {} on", to.got);
            to.got += n;
            left -= n;
            if to.room != usize::MAX {
                to.room -= n;
            }
            let conn = to.conn;
            self.input(Input::Wrote { conn, n });
            told = true;
        }
        told
    }

    /// Reads what there is, or its FIN. `anyway`: a read was under way.
    fn read(&mut self, choose: &mut dyn Choose, end: usize, anyway: bool) {
        let End { conn, total, read, read_closed, was_read, .. } = &self.ends[end];
        let (conn, total, read) = (*conn, *total, *read);
        if *read_closed || *was_read || !anyway && self.engine.read_budget(conn) == 0 {
            return;
        }
        if read == total {
            self.ends[end].read_closed = true;
            return self.input(Input::ReadClosed { conn });
        }
        let bulk = self.engine.reads_bulk(conn);
        let most = if bulk { Limits::BULK_BLOCK } else { Limits::READ_BLOCK };
        let n = match weighted(choose, &[8, 2, 1]) {
            0 => most,
            1 => choose.within(Limits::READ_BLOCK / 2, most),
            _ => choose.within(1, 1000),
        };
        let n = n.min(total - read);
        let data = BytesMut::from(self.ends[end].text.at(read, n));
        self.ends[end].read += n;
        self.ends[end].was_read = true;
        let sink = self.engine.splices_to(conn).filter(|_| !choose.one_in(4) && self.splices);
        if let Some(sink) = sink {
            assert_eq!(sink, self.ends[1 - end].conn);
            assert!(bulk && !anyway, "it would not be read");
            self.ends[1 - end].pipe = data;
            self.spliced += 1;
            self.input(Input::Spliced { conn, n });
        } else {
            self.input(Input::Received { conn, data });
        }
    }

    /// One thing happens.
    fn step(&mut self, choose: &mut dyn Choose) {
        let end = choose.below(2);
        match weighted(choose, &[12, 4, 2, 1, 1, 1]) {
            0 => self.read(choose, end, false),
            1 => drop(self.write(end, usize::MAX)),
            2 => {
                let room = choose.within(1, Limits::BULK_BLOCK);
                self.ends[end].room = [room, 0, usize::MAX, usize::MAX][choose.below(4)];
                let most = if choose.flip() { usize::MAX } else { choose.within(1, 100_000) };
                self.write(end, most);
            }
            // The adapter wants its pipe back.
            4 if !self.ends[end].pipe.is_empty() => {
                let End { conn, pipe, .. } = &mut self.ends[end];
                let (conn, data) = (*conn, std::mem::take(pipe));
                self.unspliced += 1;
                self.input(Input::Unspliced { conn, data });
            }
            3 if self.engine.splices_to(self.ends[end].conn).is_none() => {
                self.read(choose, end, true);
            }
            _ => self.now += Duration::from_millis(10),
        }
        if !choose.one_in(4) {
            self.turn();
        }
    }

    fn is_over(&self) -> bool {
        self.ends.iter().all(|end| end.closed.last() == Some(&CloseKind::Full))
    }

    /// Everybody reads, and comes to the end.
    fn finish(&mut self, choose: &mut dyn Choose) {
        for _ in 0..10_000 {
            if self.is_over() {
                return;
            }
            for end in 0..2 {
                self.ends[end].room = usize::MAX;
                self.write(end, usize::MAX);
                self.turn();
                if self.ends[end].closed.last() != Some(&CloseKind::Full) {
                    self.read(choose, end, false);
                }
                self.turn();
            }
        }
        panic!("it does not come to an end");
    }
}

/// What came from clients and went to them, and the same at endpoints.
fn counted(snapshot: &Snapshot) -> [u64; 4] {
    let mut sums = [0; 4];
    for direction in &snapshot.directions {
        sums[0] += direction.accepted.read_bytes;
        sums[1] += direction.accepted.write_bytes;
    }
    for service in &snapshot.services {
        sums[2] += service.stats.tcp.read_bytes;
        sums[3] += service.stats.tcp.write_bytes;
    }
    sums
}

/// How many pipes were filled, and how many of them were taken back.
fn run(seed: u64, splices: bool) -> [usize; 2] {
    let choose = &mut Seeded::new(seed);
    let mut tunnel = Tunnel::new(choose, splices);
    let (steps, breaks) = (choose.within(0, 200), choose.one_in(4));
    for _ in 0..steps {
        if tunnel.is_over() {
            break;
        }
        tunnel.step(choose);
    }
    if breaks && !tunnel.is_over() {
        tunnel.turn();
        if tunnel.is_over() {
            return [tunnel.spliced, tunnel.unspliced];
        }
        let conn = tunnel.ends[choose.below(2)].conn;
        tunnel.input(Input::Failed { conn, kind: IoError::Reset });
        tunnel.turn();
        for end in &tunnel.ends {
            assert_eq!(end.closed.last(), Some(&CloseKind::Abort));
        }
    } else {
        tunnel.finish(choose);
        let [down, up] = [0, 1].map(|end| tunnel.ends[end].total as u64);
        assert_eq!(counted(&tunnel.engine.snapshot()), [down, up, up, down]);
    }
    let gauges = tunnel.engine.gauges();
    assert_eq!((gauges.connections, gauges.buffered_bytes), (0, 0));
    [tunnel.spliced, tunnel.unspliced]
}

#[test]
fn what_passes_unseen_arrives_as_it_would_have() {
    let seeds = seeds::wanted(300);
    let all = seeds.end - seeds.start;
    let (mut spliced, mut unspliced) = (0, 0);
    for seed in seeds {
        let running = Running(seed, "splice");
        let [filled, taken_back] = run(seed, true);
        spliced += filled;
        unspliced += taken_back;
        assert_eq!(run(seed, false), [0, 0]);
        drop(running);
    }
    println!("{all} seeds: {spliced} pipes filled, {unspliced} taken back");
    assert!(all < 100 || spliced as u64 > 2 * all, "{spliced} pipes filled in {all} runs");
    assert!(all < 100 || unspliced > 0, "no pipe was taken back in {all} runs");
}
