//! Bytes to cut.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use selvedge_proptests::choose::Seeded;
use selvedge_proptests::table;
use selvedge_proptests::traffic::request::{Ask, request};
use selvedge_proptests::traffic::response::{Answer, response};

/// What one side sends.
#[derive(Clone)]
pub(crate) struct Stream(pub(crate) Vec<u8>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// Longer ones say nothing more, byte by byte.
const LONGEST: usize = 2048;

/// The messages of the tables and the corpora that are not long; whether each is a request.
pub(crate) fn committed() -> &'static [(bool, Vec<u8>)] {
    static COMMITTED: OnceLock<Vec<(bool, Vec<u8>)>> = OnceLock::new();
    COMMITTED.get_or_init(|| {
        let requests = table::requests().into_iter().map(|case| (true, case.bytes));
        let responses = table::responses().into_iter().map(|case| (false, case.bytes));
        let mut all: Vec<_> = requests.chain(responses).collect();
        // The first bytes are not part of the message.
        for (name, skip) in [("http1_request", 4), ("http1_response", 4), ("http1_differential", 1)]
        {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
            let files = fs::read_dir(folder).expect("a corpus");
            let mut paths: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
            paths.sort();
            for path in paths {
                let bytes = fs::read(path).expect("readable");
                let bytes = bytes[bytes.len().min(skip)..].to_vec();
                all.push((!bytes.starts_with(b"HTTP/1"), bytes));
            }
        }
        all.retain(|(_, bytes)| bytes.len() <= LONGEST);
        all
    })
}

/// Requests on one connection.
pub(crate) fn requests() -> impl Strategy<Value = Stream> {
    stream(true, |seed| {
        let choose = &mut Seeded::new(seed);
        let authorities = ["web.example", "nobody.example"];
        let ask = Ask {
            id: 1,
            authorities: &authorities,
            redirected: false,
            largest: 100,
            tunnels: false,
            users: 0,
        };
        request(choose, ask).bytes
    })
}

/// Responses on one connection.
pub(crate) fn responses() -> impl Strategy<Value = Stream> {
    stream(false, |seed| {
        let choose = &mut Seeded::new(seed);
        let authorities = ["web.example"];
        let ask = Ask {
            id: 1,
            authorities: &authorities,
            redirected: false,
            largest: 1,
            tunnels: false,
            users: 0,
        };
        let asked = request(choose, ask);
        response(
            choose,
            Answer { id: 1, to: &asked, largest: 100, status: None, tunnel: false, wait: None },
        )
        .bytes
    })
}

/// One to three messages with damage, or any bytes.
fn stream(are_requests: bool, generate: fn(u64) -> Vec<u8>) -> impl Strategy<Value = Stream> {
    let message = prop_oneof![
        2 => any::<Index>().prop_map(move |index| {
            let of_kind = committed().iter().filter(|(is_request, _)| *is_request == are_requests);
            index.get(&of_kind.collect::<Vec<_>>()).1.clone()
        }),
        3 => any::<u64>().prop_map(generate),
    ];
    let messages =
        (vec(message, 1..4), prop_oneof![2 => Just(Vec::new()), 1 => vec(damage(), 1..4)]);
    prop_oneof![
            8 => messages.prop_map(|(messages, damage)| {
                let mut bytes = messages.concat();
                for damage in &damage {
     damage.apply(&mut bytes);
    }
                Stream(bytes)
            }),
            1 => vec(any::<u8>(), 0..60).prop_map(Stream),
        ]
}

#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Remove(Index),
    Insert(Index, &'static str),
    Truncate(Index),
    Repeat(Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let byte = prop_oneof![
        proptest::sample::select(&b"\r\n\0 \t:;,0aZ-\x7f\xff\x01/\"H"[..]),
        any::<u8>()
    ];
    let text = proptest::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        ",",
        "Content-Length: 3\r\n",
        "\r\nTransfer-Encoding: chunked\r\n",
        "\r\nHost: web.example\r\n",
        "0\r\n\r\n",
        ";a=\"",
        "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ]);
    prop_oneof![
        (any::<Index>(), byte).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        any::<Index>().prop_map(Damage::Remove),
        (any::<Index>(), text).prop_map(|(at, text)| Damage::Insert(at, text)),
        any::<Index>().prop_map(Damage::Truncate),
        (any::<Index>(), 1_usize..30).prop_map(|(at, len)| Damage::Repeat(at, len)),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match self {
            Damage::Replace(at, byte) => bytes[at.index(len)] = *byte,
            Damage::Remove(at) => drop(bytes.remove(at.index(len))),
            Damage::Insert(at, text) => {
                let at = at.index(len);
                bytes.splice(at..at, text.bytes());
            }
            Damage::Truncate(at) => bytes.truncate(at.index(len)),
            Damage::Repeat(at, count) => {
                let at = at.index(len);
                let again = bytes[at..(at + count).min(len)].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}
