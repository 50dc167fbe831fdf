//! Any bytes, valid or not, mean the same however they are cut: for the codec alone, and through the
//! engine, as requests and as responses.
//!
//! Streams are messages of the tables, of the fuzz corpora and of the grammar, one after the other,
//! with damage; and bytes out of nowhere. `tests/cuts.rs` cuts whole conversations of the grammar at
//! every byte.

mod codec;
mod engine;
mod streams;

use proptest::collection::vec;
use proptest::prelude::*;

/// Where a stream is cut.
#[derive(Clone, Debug)]
enum Cuts {
    EveryByte,
    /// Positions, as parts of 65,536 of the length.
    At(Vec<u16>),
    /// Pieces of this size.
    Every(usize),
}

impl Cuts {
    /// The pieces.
    fn of<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let size = match self {
            Cuts::EveryByte => 1,
            Cuts::Every(size) => *size,
            Cuts::At(places) => {
                let mut ends: Vec<usize> =
                    places.iter().map(|&place| (bytes.len() * usize::from(place)) >> 16).collect();
                ends.extend([0, bytes.len()]);
                ends.sort_unstable();
                ends.dedup();
                return ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            }
        };
        bytes.chunks(size).collect()
    }
}

fn cuts() -> impl Strategy<Value = Cuts> {
    prop_oneof![
        1 => Just(Cuts::EveryByte),
        4 => vec(any::<u16>(), 1..6).prop_map(Cuts::At),
        1 => (2_usize..40).prop_map(Cuts::Every),
    ]
}

/// `SELVEDGE_SEEDS` says how many; else there are as many as take seconds.
fn config() -> ProptestConfig {
    let cases = std::env::var("SELVEDGE_SEEDS");
    let cases = cases.map_or(1_500, |text| text.parse().expect("a number"));
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_mean_the_same_to_the_codec(
        stream in streams::requests(),
        cuts in cuts(),
        small in any::<bool>(),
    ) {
        let limits = codec::limits(small);
        let whole = codec::requests(&[&stream.0], &limits);
        prop_assert_eq!(whole, codec::requests(&cuts.of(&stream.0), &limits));
    }

    #[test]
    fn responses_mean_the_same_to_the_codec(
        stream in streams::responses(),
        cuts in cuts(),
        small in any::<bool>(),
        kind in 0_usize..3,
    ) {
        let (limits, to) = (codec::limits(small), codec::KINDS[kind]);
        let whole = codec::responses(&[&stream.0], &limits, to);
        prop_assert_eq!(whole, codec::responses(&cuts.of(&stream.0), &limits, to));
    }

    #[test]
    fn requests_mean_the_same_to_the_engine(stream in streams::requests(), cuts in cuts()) {
        let whole = engine::requests(&[&stream.0]);
        let cut = engine::requests(&cuts.of(&stream.0));
        prop_assert!(whole.same(&cut), "whole {whole}cut {cut}");
    }

    #[test]
    fn responses_mean_the_same_to_the_engine(
        stream in streams::responses(),
        cuts in cuts(),
        kind in 0_usize..engine::ASKED.len(),
    ) {
        let whole = engine::responses(kind, &[&stream.0]);
        let cut = engine::responses(kind, &cuts.of(&stream.0));
        prop_assert!(whole.same(&cut), "whole {whole}cut {cut}");
    }
}

/// Every message of the tables and the corpora as it is, at every byte and in two in some places.
#[test]
fn the_tables_and_the_corpora_mean_the_same() {
    let limits = codec::limits(false);
    let (mut tried, mut reached) = (0, 0);
    for (is_request, bytes) in streams::committed() {
        let fifths: Vec<u16> = (1..5).map(|part| part * 13_107).collect();
        let mut tries = vec![Cuts::EveryByte, Cuts::Every(7)];
        tries.extend(fifths.iter().map(|&place| Cuts::At(vec![place])));
        for cuts in tries {
            let pieces = cuts.of(bytes);
            let shown = bytes.escape_ascii();
            tried += 1;
            if *is_request {
                let whole = codec::requests(&[bytes], &limits);
                assert_eq!(whole, codec::requests(&pieces, &limits), "{cuts:?} {shown}");
                let (whole, cut) = (engine::requests(&[bytes]), engine::requests(&pieces));
                assert!(whole.same(&cut), "{cuts:?} {shown}\nwhole {whole}cut {cut}");
                reached += cut.reached.len();
            } else {
                let to = codec::KINDS[0];
                let whole = codec::responses(&[bytes], &limits, to);
                assert_eq!(whole, codec::responses(&pieces, &limits, to), "{cuts:?} {shown}");
                let whole = engine::responses(0, &[bytes]);
                let cut = engine::responses(0, &pieces);
                assert!(whole.same(&cut), "{cuts:?} {shown}\nwhole {whole}cut {cut}");
            }
        }
    }
    assert!(tried > 3_000 && reached > 500, "{tried}, {reached} requests reached the app");
}

/// What the traces show differs where it should.
#[test]
fn what_differs_is_seen() {
    let limits = codec::limits(false);
    let one = &b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 3\r\n\r\nabc"[..];
    let other = &b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 3\r\n\r\nabd"[..];
    assert_ne!(codec::requests(&[one], &limits), codec::requests(&[other], &limits));
    assert!(!engine::requests(&[one]).same(&engine::requests(&[other])));
    assert!(engine::requests(&[one]).to_string().contains("abc"));
    let one = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..];
    let other = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"[..];
    let to = codec::KINDS[0];
    assert_ne!(codec::responses(&[one], &limits, to), codec::responses(&[other], &limits, to));
    assert!(!engine::responses(0, &[one]).same(&engine::responses(0, &[other])));
}
