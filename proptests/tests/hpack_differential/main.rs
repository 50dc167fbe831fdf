//! HPACK against implementations that share nothing with it, or with each other: two crates, and the
//! Python package `hpack` where it is installed.
//!
//! What ours encodes they must decode, and the other way round. Damaged blocks must mean the same to
//! ours and to the Python one, or be refused by both. `SELVEDGE_SEEDS=10000` tries more connections.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Command, Stdio};

use selvedge_core::hpack::{Decoder, Encoder, Error};
use selvedge_proptests::choose::{Choose, Seeded, pick};
use selvedge_proptests::hpack::{Field, TABLE_SIZES, decode, encode, fields};

type Pair = (Vec<u8>, Vec<u8>);

const BLOCKS: usize = 20;

fn connections() -> Range<u64> {
    let seeds = std::env::var("SELVEDGE_SEEDS").ok();
    0..seeds.map_or(300, |seeds| seeds.parse().expect("SELVEDGE_SEEDS is a number"))
}

/// What arrives of these.
fn pairs(fields: &[Field]) -> Vec<Pair> {
    fields.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.clone())).collect()
}

fn ours(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Pair>, Error> {
    let (_, fields) = decode(decoder, block, usize::MAX)?;
    Ok(fields.into_iter().map(|field| (field.name, field.value)).collect())
}

fn httlib(decoder: &mut httlib_hpack::Decoder<'_>, block: &[u8]) -> Option<Vec<(Pair, bool)>> {
    let mut fields = Vec::new();
    decoder.decode(&mut block.to_vec(), &mut fields).ok()?;
    let never = httlib_hpack::Encoder::NEVER_INDEXED;
    Some(
        fields
            .into_iter()
            .map(|(name, value, flags)| ((name, value), flags & never != 0))
            .collect(),
    )
}

#[test]
fn what_we_encode_two_others_decode() {
    for seed in connections() {
        let mut choose = Seeded::new(seed);
        let mut encoder = Encoder::new(4096);
        let mut fluke = fluke_hpack::Decoder::new();
        let mut httlib_decoder = httlib_hpack::Decoder::with_dynamic_size(4096);
        let mut seen = Vec::new();
        for _ in 0..BLOCKS {
            if choose.one_in(4) {
                // Neither of them is larger than this.
                encoder.set_peer_limit(pick(&mut choose, &TABLE_SIZES).min(4096));
            }
            let sent = fields(&mut choose, &mut seen);
            let block = encode(&mut encoder, &sent);
            let received = httlib(&mut httlib_decoder, &block).expect("good for httlib-hpack");
            for (field, (_, never)) in sent.iter().zip(&received) {
                assert!(*never || !field.never_indexed, "{field:?}");
            }
            let received: Vec<Pair> = received.into_iter().map(|(pair, _)| pair).collect();
            assert_eq!(received, pairs(&sent), "httlib-hpack, seed {seed}");
            // It takes a block of size updates alone for an error; RFC 7541 §4.2 does not.
            let only_updates = sent.is_empty() && !block.is_empty();
            match fluke.decode(&block) {
                Err(fluke_hpack::decoder::DecoderError::SizeUpdateAtEnd) if only_updates => {}
                received => {
                    assert_eq!(received, Ok(pairs(&sent)), "fluke-hpack, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn what_two_others_encode_we_decode() {
    for seed in connections() {
        let mut choose = Seeded::new(seed);
        let mut from_fluke = Decoder::new(4096);
        let mut fluke = fluke_hpack::Encoder::new();
        let mut from_httlib = Decoder::new(4096);
        let mut httlib_encoder = httlib_hpack::Encoder::with_dynamic_size(4096);
        let mut seen = Vec::new();
        for _ in 0..BLOCKS {
            let sent = fields(&mut choose, &mut seen);
            let expected = pairs(&sent);
            let block = fluke.encode(expected.iter().map(|(name, value)| (&name[..], &value[..])));
            assert_eq!(ours(&mut from_fluke, &block), Ok(expected.clone()), "fluke, seed {seed}");

            let block = encode_with_httlib(&mut httlib_encoder, &mut choose, &expected);
            let received = ours(&mut from_httlib, &block);
            assert_eq!(received, Ok(expected), "httlib-hpack, seed {seed}");
        }
    }
}

/// In any representation, and with size updates.
fn encode_with_httlib(
    encoder: &mut httlib_hpack::Encoder<'_>,
    choose: &mut dyn Choose,
    fields: &[Pair],
) -> Vec<u8> {
    let mut block = Vec::new();
    if choose.one_in(5) {
        let size = pick(choose, &TABLE_SIZES).min(4096);
        encoder.update_max_dynamic_size(size, &mut block).expect("a size");
    }
    for (name, value) in fields {
        let kind = pick(choose, &[0, 0x4, 0x4, 0x8]);
        let flags = kind | choose.below(4) as u8 | pick(choose, &[0x10, 0]);
        encoder.encode((name.clone(), value.clone(), flags), &mut block).expect("a field");
    }
    block
}

fn damage(choose: &mut dyn Choose, block: &mut Vec<u8>) {
    if block.is_empty() || choose.flip() {
        return;
    }
    let at = choose.below(block.len());
    match choose.below(4) {
        0 => block[at] ^= 1 << choose.below(8),
        1 => block[at] = choose.below(256) as u8,
        2 => block.insert(at, choose.below(256) as u8),
        _ => block.truncate(at),
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).expect("below 16");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len() / 2).map(|index| digit(2 * index)).collect()
}

/// Fields on one line: `name=value` in hexadecimal.
fn line(fields: &[Pair]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", hex(name), hex(value))).collect();
    fields.join(" ")
}

/// Runs the Python program on these lines: what it answers to each, or nothing if the package is not
/// there and nobody insists.
fn python(lines: &[String]) -> Option<Vec<String>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hpack_differential/peer.py");
    let import =
        Command::new("python3").args(["-c", "import hpack"]).stderr(Stdio::null()).status();
    if !import.is_ok_and(|status| status.success()) {
        let required = std::env::var_os("SELVEDGE_REQUIRE_PEERS").is_some();
        assert!(!required, "the Python package hpack is missing");
        println!("*** SKIPPED: no Python package hpack ***");
        return None;
    }
    let mut child = Command::new("python3")
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let stdout = child.stdout.take().expect("a pipe");
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            stdin.write_all(lines.join("\n").as_bytes()).expect("python3 reads");
        });
        BufReader::new(stdout).lines().collect::<Result<Vec<_>, _>>().expect("python3 writes")
    });
    assert!(child.wait().expect("python3 ends").success());
    assert_eq!(answers.len(), lines.len());
    Some(answers)
}

#[test]
fn what_we_encode_python_decodes() {
    let (mut lines, mut expected) = (Vec::new(), Vec::new());
    for seed in connections() {
        let mut choose = Seeded::new(seed);
        let mut encoder = Encoder::new(65536);
        let mut seen = Vec::new();
        lines.push("reset".to_owned());
        expected.push(String::new());
        for _ in 0..BLOCKS {
            if choose.one_in(4) {
                let limit = pick(&mut choose, &TABLE_SIZES);
                encoder.set_peer_limit(limit);
                lines.push(format!("limit {limit}"));
                expected.push(String::new());
            }
            let sent = fields(&mut choose, &mut seen);
            lines.push(format!("decode {}", hex(&encode(&mut encoder, &sent))));
            expected.push(line(&pairs(&sent)));
        }
    }
    let Some(answers) = python(&lines) else { return };
    for ((answer, expected), question) in answers.iter().zip(&expected).zip(&lines) {
        assert_eq!(answer, expected, "{question}");
    }
}

#[test]
fn what_python_encodes_we_decode() {
    let (mut lines, mut sent) = (Vec::new(), Vec::new());
    for seed in connections() {
        let mut choose = Seeded::new(seed);
        let mut seen = Vec::new();
        lines.push("reset".to_owned());
        sent.push(None);
        for _ in 0..BLOCKS {
            if choose.one_in(4) {
                // We allow 4,096: this is what the peer makes of it.
                lines.push(format!("size {}", pick(&mut choose, &TABLE_SIZES).min(4096)));
                sent.push(None);
            }
            let block = pairs(&fields(&mut choose, &mut seen));
            let coding = pick(&mut choose, &["huffman", "plain"]);
            lines.push(format!("encode {coding} {}", line(&block)));
            sent.push(Some(block));
        }
    }
    let Some(answers) = python(&lines) else { return };
    let mut decoder = Decoder::new(4096);
    for ((answer, sent), question) in answers.iter().zip(sent).zip(&lines) {
        match sent {
            Some(sent) => {
                assert_eq!(ours(&mut decoder, &unhex(answer)), Ok(sent), "{question}: {answer}");
            }
            None if question == "reset" => decoder = Decoder::new(4096),
            None => {}
        }
    }
}

/// Good blocks with an octet changed, added, taken out, or cut off.
#[test]
fn damaged_blocks_mean_the_same_to_python_or_are_refused_by_both() {
    let (mut lines, mut blocks) = (Vec::new(), Vec::new());
    for seed in 0..20 * connections().end {
        let mut choose = Seeded::new(seed);
        let mut encoder = httlib_hpack::Encoder::with_dynamic_size(4096);
        let mut seen = Vec::new();
        lines.push("reset".to_owned());
        blocks.push(None);
        for _ in 0..3 {
            let sent = pairs(&fields(&mut choose, &mut seen));
            let mut block = encode_with_httlib(&mut encoder, &mut choose, &sent);
            damage(&mut choose, &mut block);
            lines.push(format!("try {}", hex(&block)));
            blocks.push(Some(block));
        }
    }
    let Some(answers) = python(&lines) else { return };
    let (mut same, mut refused) = (0, 0);
    let mut decoder = Some(Decoder::new(4096));
    for ((answer, block), question) in answers.iter().zip(blocks).zip(&lines) {
        let Some(block) = block else {
            decoder = Some(Decoder::new(4096));
            continue;
        };
        // Once a block was refused, the tables may differ.
        let Some(ours) = decoder.as_mut().map(|decoder| ours(decoder, &block)) else { continue };
        let error = answer.strip_prefix("error ");
        match (ours, error) {
            (Ok(fields), None) => {
                assert_eq!(*answer, line(&fields), "{question}");
                same += 1;
                continue;
            }
            (Err(_), Some(_)) => refused += 1,
            (Err(error), None) => panic!("only for us: {error}: {question}"),
            (Ok(_), Some(error)) => panic!("only for Python: {error}: {question}"),
        }
        decoder = None;
    }
    println!("{same} blocks mean the same, {refused} are refused by both");
    assert!(same > 1000 && refused > 1000);
}
