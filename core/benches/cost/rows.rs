//! The rows: what is measured, by which program. There is no other list.

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What `.ci/instructions.baseline` calls it, too.
    pub(crate) name: String,
    pub(crate) run: Run,
    /// It is counted with so many, and with three times as many.
    pub(crate) few: u64,
    pub(crate) part: Part,
    /// It repeats within less than 1 %, so that `.ci/instructions` can hold it to its baseline.
    pub(crate) gate: bool,
}

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Exchange,
    Pair,
    Opaque,
    Library,
    Hpack,
    Head,
}

impl Part {
    pub(crate) const ALL: [(Part, &str); 6] = [
        (Part::Exchange, "A request through an engine"),
        (Part::Pair, "A request through two engines with mutual TLS by rustls between them"),
        (Part::Opaque, "A MiB through opaque connections"),
        (Part::Library, "The same bytes through libraries"),
        (Part::Hpack, "Header blocks"),
        (Part::Head, "Long heads"),
    ];
}

/// How it is run.
#[derive(Clone, Debug)]
pub(crate) enum Run {
    /// A program, its arguments, and behind them the count.
    Direct(&'static str, Vec<String>),
    /// The bytes of peers are recorded once (the count and a file behind the arguments), and given to
    /// what is measured alone (a file behind the arguments).
    Replay { program: &'static str, record: Vec<String>, replay: Vec<String> },
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn direct(name: &str, part: Part, few: u64, program: &'static str, args: &str) -> Row {
    let run = Run::Direct(program, words(args));
    Row { name: name.to_owned(), run, few, part, gate: true }
}

fn replay(name: String, part: Part, program: &'static str, record: &str, replay: &str) -> Row {
    let run = Run::Replay { program, record: words(record), replay: words(replay) };
    Row { name, run, few: 1000, part, gate: true }
}

/// Calls between peers of all versions: from, to, streams.
const CALLS: [(&str, &str, u32); 7] = [
    ("h1", "h1", 1),
    ("h1", "h2", 1),
    ("h2", "h1", 1),
    ("h2", "h1", 32),
    ("h2", "h2", 1),
    ("h2", "h2", 8),
    ("h2", "h2", 32),
];

fn calls() -> Vec<Row> {
    let call = |from: &str, to: &str, streams, flag: &str, what: &str| {
        let name = format!(
            "a unary gRPC call through the engine, {from} to {to}, {streams} at a time{what}"
        );
        let record = format!("{flag} record {from} {to} {streams}");
        let replayed = format!("{flag} replay {to} {streams}");
        replay(name, Part::Exchange, "hop_cost", &record, &replayed)
    };
    let mut rows: Vec<Row> =
        CALLS.iter().map(|&(from, to, streams)| call(from, to, streams, "", "")).collect();
    rows.push(call("h2", "h2", 32, "policy", ", retries and breaker"));
    rows
}

fn pairs() -> Vec<Row> {
    let pair = |&(from, to, streams): &(&str, &str, u32)| {
        let name = format!("a unary gRPC call through a pair, {from} to {to}, {streams} at a time");
        let record = format!("record {from} {to} {streams}");
        replay(name, Part::Pair, "pair_cost", &record, &format!("replay {to}"))
    };
    // Between proxies it is HTTP/2 as it came, or HTTP/1 in HTTP/2 that says so.
    let same = |(from, to, _): &&(&str, &str, u32)| from == to;
    CALLS.iter().filter(same).map(pair).collect()
}

fn libraries() -> Vec<Row> {
    let mut rows = vec![direct(
        "hyper: an HTTP/1 exchange, 10 fields and 100 bytes each way",
        Part::Library,
        1000,
        "reference_cost",
        "hyper",
    )];
    for streams in [1, 8, 32] {
        let name = format!("the h2 crate: a unary gRPC call, h2 to h2, {streams} at a time");
        let record = format!("h2 record {streams}");
        rows.push(replay(name, Part::Library, "reference_cost", &record, "h2 replay"));
    }
    // They are others' and change when their versions do.
    for row in &mut rows {
        row.gate = false;
    }
    rows
}

fn blocks() -> Vec<Row> {
    let mut rows = Vec::new();
    for part in ["decode", "encode"] {
        for block in ["request", "repeated", "response", "trailers"] {
            let name = format!("HPACK: {part} a warm block of gRPC, {block}");
            let args = format!("{part} {block}");
            rows.push(direct(&name, Part::Hpack, 1000, "hpack_cost", &args));
        }
    }
    let name = "HPACK: decode a warm block of gRPC, huffman";
    rows.push(direct(name, Part::Hpack, 1000, "hpack_cost", "decode huffman"));
    rows
}

fn heads() -> Vec<Row> {
    let mut rows = Vec::new();
    for part in ["codec", "engine"] {
        for (kib, how) in [(64, "whole"), (16, "bytes"), (64, "bytes")] {
            let name = format!("{part}: a head of {kib} KiB, {how}");
            let args = format!("{part} {how} {kib}");
            rows.push(direct(&name, Part::Head, 1, "head_cost", &args));
        }
    }
    rows
}

/// All of them.
pub(crate) fn all() -> Vec<Row> {
    let exchange =
        |name: &str, args: &str| direct(name, Part::Exchange, 1000, "exchange_cost", args);
    let mut rows = vec![exchange("an HTTP/1 exchange, 10 fields and 100 bytes each way", "")];
    rows.extend(calls());
    rows.push(exchange("the same by one of 1 routes", "routes 1"));
    rows.push(exchange("the same by one of 1000 routes", "routes 1000"));
    rows.push(exchange("the same with retries, timeouts and a breaker", "policy"));
    rows.extend(pairs());
    rows.push(direct("opaque TCP, a MiB", Part::Opaque, 16, "engine_cost", "tunnel"));
    let name = "opaque TCP through a pair, a MiB";
    rows.push(direct(name, Part::Opaque, 16, "pair_cost", "tunnel"));
    rows.extend(libraries());
    rows.extend(blocks());
    rows.extend(heads());
    rows
}
