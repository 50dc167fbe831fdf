//! What we accept and forward is read alike by hyper, Node and h11; and where they and we disagree
//! about an input, that is listed in `tables/disagreements.toml` with its clause.
//!
//! `SELVEDGE_SEEDS` says how many generated messages; else there are as many as take seconds.

mod engine;
mod programs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use programs::PROGRAMS;
use selvedge_core::http1::ResponseTo;
use selvedge_proptests::choose::{Choose, Seeded};
use selvedge_proptests::differential::{self as differential, Disagreements, Input, Kind};
use selvedge_proptests::table;
use selvedge_proptests::traffic::request::{Ask, damage, request};
use selvedge_proptests::traffic::response::{Answer, response};

fn kind_of_answer(request: &[u8]) -> Kind {
    let is_head = request.starts_with(b"HEAD ");
    let is_connect = request.starts_with(b"CONNECT ");
    Kind::Response(ResponseTo { is_head, is_connect })
}

/// Every message of the tables.
fn from_tables() -> Vec<(Kind, Vec<u8>)> {
    let requests = table::requests()
        .into_iter()
        .flat_map(|case| [(Kind::Request, case.bytes.clone()), (Kind::Redirected, case.bytes)]);
    let responses = table::responses().into_iter().map(|case| {
        let kind = match &case.kind {
            table::Kind::Response(request) => kind_of_answer(request),
            table::Kind::Request => Kind::Request,
        };
        (kind, case.bytes)
    });
    requests.chain(responses).collect()
}

/// What fuzzers kept. The first byte says what it is, or the first four are not part of the message.
fn from_corpora() -> Vec<(Kind, Vec<u8>)> {
    let mut messages = Vec::new();
    for bytes in corpus("http1_differential") {
        if let Some((&choice, message)) = bytes.split_first() {
            messages.push((Kind::ALL[usize::from(choice) % Kind::ALL.len()], message.to_vec()));
        }
    }
    for (name, kinds) in [("http1_request", &Kind::ALL[..1]), ("http1_response", &Kind::ALL[1..4])]
    {
        for bytes in corpus(name) {
            let message = &bytes[bytes.len().min(4)..];
            messages.extend(kinds.iter().map(|&kind| (kind, message.to_vec())));
        }
    }
    messages
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let files = fs::read_dir(folder).expect("a corpus");
    let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// Messages of the grammar, half of them damaged.
fn generated(seeds: u64) -> Vec<(Kind, Vec<u8>)> {
    let mut messages = Vec::new();
    for seed in 0..seeds {
        let choose = &mut Seeded::new(seed);
        let authorities = ["a.example", "b.example:81", "[2001:db8::1]"];
        let ask = Ask {
            id: 1,
            authorities: &authorities,
            redirected: false,
            largest: 100,
            tunnels: true,
            users: 0,
        };
        let mut asked = request(choose, ask);
        let answer = Answer {
            id: 1,
            to: &asked,
            largest: 100,
            status: None,
            tunnel: choose.one_in(4),
            wait: None,
        };
        let mut answered = response(choose, answer);
        if choose.flip() {
            damage(choose, &mut asked.bytes);
            damage(choose, &mut answered.bytes);
        }
        let kind = kind_of_answer(format!("{} ", asked.method).as_bytes());
        let asks = if choose.flip() { Kind::Redirected } else { Kind::Request };
        messages.extend([(asks, asked.bytes), (kind, answered.bytes)]);
    }
    messages
}

fn inputs() -> Vec<(Kind, Vec<u8>)> {
    let seeds = std::env::var("SELVEDGE_SEEDS");
    let seeds = seeds.map_or(2_000, |text| text.parse().expect("a number"));
    [from_tables(), from_corpora(), generated(seeds)].concat()
}

/// Prints what is wrong, one of each kind, and fails if there is anything.
fn report(name: &str, checked: usize, problems: &[String]) {
    let mut kinds: BTreeMap<[&str; 2], (usize, &str)> = BTreeMap::new();
    for problem in problems {
        // The first line, and why we refuse what they do not.
        let ours = problem.lines().find(|line| line.starts_with("ours refused"));
        let kind = [problem.lines().next(), ours].map(Option::unwrap_or_default);
        kinds.entry(kind).or_insert((0, problem)).0 += 1;
    }
    for (count, problem) in kinds.values() {
        println!("{count} times: {problem}");
    }
    println!("{name}: {checked} messages, {} problems", problems.len());
    assert!(problems.is_empty(), "{name}: {} of {checked} messages", problems.len());
}

#[test]
fn hyper_reads_what_we_read() {
    let (listed, inputs) = (Disagreements::new(), inputs());
    let check = |(kind, bytes): &(Kind, Vec<u8>)| {
        differential::check_hyper(&Input::new(*kind, bytes), &listed).err()
    };
    let problems: Vec<String> = inputs.iter().filter_map(check).collect();
    report("hyper", inputs.len(), &problems);
    every_line_is_needed(&listed, "hyper");
}

#[test]
fn hyper_reads_what_the_engine_writes() {
    let (listed, inputs) = (Disagreements::new(), inputs());
    let (mut checked, mut problems) = (0, Vec::new());
    for (kind, bytes) in inputs.iter().filter(|(kind, _)| {
        // Harness clients are not redirected, and a CONNECT is answered by the proxy.
        !matches!(kind, Kind::Redirected) && kind.answers() != "CONNECT"
    }) {
        let input = Input::new(*kind, bytes);
        let Some(forwarded) = engine::forwarded(&input) else { continue };
        checked += 1;
        let theirs = differential::hyper::read(*kind, &forwarded.each_ref().map(Vec::as_slice));
        problems
            .extend(input.check_forwarded(&differential::hyper::READER, &theirs, &listed).err());
    }
    assert!(checked > 1_500, "{checked}");
    report("hyper, behind the engine", checked, &problems);
}

#[test]
fn node_and_h11_read_what_we_read() {
    let inputs = inputs();
    let inputs: Vec<Input<'_>> =
        inputs.iter().map(|(kind, bytes)| Input::new(*kind, bytes)).collect();
    for program in &PROGRAMS {
        let (name, Some(version)) = (program.reader.name, program.version()) else { continue };
        let listed = Disagreements::new();
        let accepted: Vec<_> = inputs
            .iter()
            .filter_map(|input| input.forwarded().map(|forwarded| (input, forwarded.concat())))
            .collect();
        let forwarded = accepted.iter().map(|(input, bytes)| (input.kind, bytes.clone()));
        let forwarded = program.read(&forwarded.collect::<Vec<_>>());
        let check = |((input, _), theirs): (&(&Input<'_>, _), _)| {
            input.check_forwarded(&program.reader, theirs, &listed).err()
        };
        let problems: Vec<_> = accepted.iter().zip(&forwarded).filter_map(check).collect();
        report(&format!("{name} {version}, forwarded"), accepted.len(), &problems);
        if !program.is_listed(&version) {
            println!("*** SKIPPED: inputs as they are, with {name} {version} ***");
            continue;
        }
        let direct = inputs.iter().map(|input| (input.kind, input.bytes.to_vec()));
        let direct = program.read(&direct.collect::<Vec<_>>());
        let check = |(input, theirs): (&Input<'_>, _)| {
            input.check_direct(&program.reader, theirs, &listed).err()
        };
        let problems: Vec<_> = inputs.iter().zip(&direct).filter_map(check).collect();
        report(&format!("{name} {version}, direct"), inputs.len(), &problems);
        every_line_is_needed(&listed, name);
    }
}

/// A line that nothing needs is a line that hides something.
fn every_line_is_needed(listed: &Disagreements, reader: &str) {
    for line in listed.all().iter().filter(|line| line.readers.iter().any(|name| name == reader)) {
        assert!(line.used.get() > 0, "{reader} does not need {line:?}");
    }
}

#[test]
fn every_line_has_a_clause() {
    for line in Disagreements::new().all() {
        assert!(line.clause.starts_with("RFC ") && line.clause.contains('§'), "{line:?}");
        let what = [line.we_refuse.is_some(), line.they_refuse.is_some(), line.they_differ];
        assert_eq!(what.into_iter().filter(|&what| what).count(), 1, "{line:?}");
    }
}
