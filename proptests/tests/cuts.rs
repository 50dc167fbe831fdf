//! The same bytes mean the same however they are cut: conversations of the grammar, honest and
//! damaged, whole, byte by byte, in two at every place and in random pieces, on both sides.
//!
//! What is compared is what the peers get: messages, with their bodies put together, and how the
//! client's connection ends. How a body is cut into chunks may differ.

use std::fmt::{self, Display};
use std::sync::Arc;

use selvedge_core::config::{Config, Endpoint, Service, Target};
use selvedge_core::engine::{CloseKind, ConnId};
use selvedge_proptests::choose::{Choose, Seeded};
use selvedge_proptests::harness::{Harness, outbound};
use selvedge_proptests::traffic::request::{Ask, Request, damage, request};
use selvedge_proptests::traffic::response::{Answer, response};
use selvedge_proptests::traffic::wire::{Framing, Head, Part, Reader};

/// What is said on one client connection, and what the app answers.
struct Conversation {
    requests: Vec<Request>,
    /// What the client sends.
    sent: Vec<u8>,
    /// What the app answers to each request.
    answers: Vec<Vec<u8>>,
}

/// What everybody got.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Requests that reached the app completely.
    reached: Vec<Vec<Part>>,
    /// What reached the client, and what could not be read of it.
    answered: (Vec<Part>, Option<String>),
    /// The client's connection was reset. (Else it may linger or not: that depends on what was
    /// still to be read when it was closed.)
    reset: bool,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, error) = &self.answered;
        for part in self.reached.iter().flatten().chain([&Part::End(Vec::new())]).chain(answered) {
            match part {
                Part::Head(head) => {
                    writeln!(f, "{}", head.line.escape_ascii())?;
                    for (name, value) in &head.fields {
                        writeln!(f, "  {name}: {}", value.escape_ascii())?;
                    }
                }
                Part::Data(data) => writeln!(f, "  {}", data.escape_ascii())?,
                Part::End(trailers) => writeln!(f, "  end {trailers:?}")?,
            }
        }
        writeln!(f, "error {error:?}, reset {}", self.reset)
    }
}

fn config() -> Config {
    let endpoint = |octet: u8| Endpoint {
        target: Target::Addr(([10, 0, 0, octet], 80).into()),
        weight: 1,
        mesh: None,
        zone: None,
    };
    let service = |name: &str, octet| Service {
        name: name.into(),
        endpoints: vec![endpoint(octet)],
        ..Service::default()
    };
    let services = vec![service("web.example:80", 1), service("one.example:80", 2)];
    Config { listeners: vec![outbound()], services, ..Config::default() }
}

fn conversation(choose: &mut dyn Choose, damaged: bool) -> Conversation {
    let authorities = ["web.example", "one.example:80", "nobody.example"];
    let (mut requests, mut sent, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    let last = choose.below(4) as u32;
    for id in 0..=last {
        let ask = Ask {
            id,
            authorities: &authorities,
            redirected: false,
            largest: 100,
            tunnels: false,
            users: 0,
        };
        let mut next = request(choose, ask);
        while damaged && next.method == "HEAD" {
            // Nobody could tell which answers have a body.
            next = request(choose, ask);
        }
        let answer =
            Answer { id, to: &next, largest: 100, status: None, tunnel: false, wait: None };
        let mut answer = response(choose, answer).bytes;
        if damaged && choose.one_in(3) {
            damage(choose, &mut next.bytes);
        }
        // What follows an answer would be the beginning of the next, or not, as time has it.
        if damaged && id == last && choose.flip() {
            damage(choose, &mut answer);
        }
        if choose.one_in(6) {
            answer.splice(..0, *b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        }
        sent.extend(&next.bytes);
        answers.push(answer);
        requests.push(next);
    }
    Conversation { requests, sent, answers }
}

impl Conversation {
    /// Plays it with these cuts of what the client sends, and of every answer.
    fn play(&self, cuts: &[usize], answer_cuts: &[usize]) -> Outcome {
        let mut harness = Harness::new(Arc::new(config()));
        let client = harness.accept(0);
        let mut apps = Apps::default();
        for piece in pieces(&self.sent, cuts) {
            if harness.pipe(client).over.is_none() {
                harness.send(client, piece);
            }
            apps.answer(self, &mut harness, answer_cuts);
        }
        for app in harness.connected().to_vec() {
            if harness.pipe(app).over.is_none() {
                harness.close(app);
            }
        }
        apps.answer(self, &mut harness, answer_cuts);
        if harness.pipe(client).over.is_none() {
            harness.close(client);
        }
        apps.answer(self, &mut harness, answer_cuts);
        let pipe = harness.pipe(client);
        Outcome {
            reached: apps.reached,
            answered: self.read(&pipe.received),
            reset: pipe.over == Some(CloseKind::Abort),
        }
    }

    /// The answer to a request that the app got.
    fn answer_to(&self, parts: &[Part]) -> Vec<u8> {
        let id = |head: &Head| head.get("X-Id").map(<[u8]>::to_vec);
        let got =
            parts.iter().find_map(|part| if let Part::Head(head) = part { id(head) } else { None });
        let sent = |request: &Request| {
            let field = request.fields.iter().find(|(name, _)| name == "X-Id");
            field.map(|(_, value)| value.clone())
        };
        match self.requests.iter().position(|request| got.is_some() && sent(request) == got) {
            Some(at) => self.answers[at].clone(),
            // Damaged beyond recognition.
            None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
        }
    }

    fn read(&self, bytes: &[u8]) -> (Vec<Part>, Option<String>) {
        let mut methods = self.requests.iter().map(|request| request.method);
        let mut framing = |head: &Head| {
            if (100..200).contains(&head.status()) {
                return Ok(Framing::Nothing);
            }
            match (methods.next(), head.status()) {
                (Some("HEAD"), _) | (_, 204 | 304) => Ok(Framing::Nothing),
                _ => head.framing(),
            }
        };
        let (mut reader, mut parts) = (Reader::default(), Vec::new());
        reader.feed(bytes);
        loop {
            match reader.next(&mut framing) {
                Ok(Some(part)) => push(&mut parts, part),
                Ok(None) => return (parts, None),
                Err(error) => return (parts, Some(error)),
            }
        }
    }
}

/// The app's side: answers every request as soon as it is complete.
#[derive(Default)]
struct Apps {
    /// Of each connection: how much was read, and what of an incomplete request.
    readers: Vec<(ConnId, usize, Reader, Vec<Part>)>,
    reached: Vec<Vec<Part>>,
}

impl Apps {
    fn answer(&mut self, conversation: &Conversation, harness: &mut Harness, cuts: &[usize]) {
        while let Some((conn, answer)) = self.next(conversation, harness) {
            for piece in pieces(&answer, cuts) {
                if harness.pipe(conn).over.is_none() {
                    harness.send(conn, piece);
                }
            }
        }
    }

    /// The next complete request, and its answer.
    fn next(
        &mut self,
        conversation: &Conversation,
        harness: &Harness,
    ) -> Option<(ConnId, Vec<u8>)> {
        for &conn in &harness.connected()[self.readers.len()..] {
            self.readers.push((conn, 0, Reader::default(), Vec::new()));
        }
        let mut framing = |head: &Head| match head.framing()? {
            Framing::UntilClose => Ok(Framing::Nothing),
            framing => Ok(framing),
        };
        for (conn, read, reader, parts) in &mut self.readers {
            reader.feed(&harness.pipe(*conn).received[*read..]);
            *read = harness.pipe(*conn).received.len();
            while let Some(part) = reader.next(&mut framing).expect("a request as we write them") {
                let complete = matches!(part, Part::End(_));
                push(parts, part);
                if complete {
                    let request = std::mem::take(parts);
                    let answer = conversation.answer_to(&request);
                    self.reached.push(request);
                    return Some((*conn, answer));
                }
            }
        }
        None
    }
}

/// Adds a part; data to data.
fn push(parts: &mut Vec<Part>, part: Part) {
    match (parts.last_mut(), part) {
        (Some(Part::Data(data)), Part::Data(more)) => data.extend(more),
        (_, part) => parts.push(part),
    }
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().copied().filter(|&cut| cut < bytes.len()).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// All places to cut in two, or some of them.
fn places(choose: &mut dyn Choose, len: usize) -> Vec<usize> {
    if len <= 300 {
        return (1..len).collect();
    }
    (0..60).map(|_| choose.within(1, len - 1)).collect()
}

/// `SELVEDGE_SEEDS` says how many conversations; else there are as many as take a few seconds.
fn try_all(default: u64, damaged: bool) {
    let conversations = std::env::var("SELVEDGE_SEEDS");
    let conversations = conversations.map_or(default, |text| text.parse().expect("a number"));
    let mut complete = 0;
    for seed in 0..conversations {
        let choose = &mut Seeded::new(seed);
        let conversation = conversation(choose, damaged);
        let whole = conversation.play(&[], &[]);
        complete += whole.reached.len();
        let longest = conversation.answers.iter().map(Vec::len).max().unwrap_or(0);
        let all = |len: usize| (1..len).collect::<Vec<_>>();
        let mut tries = vec![
            (all(conversation.sent.len()), vec![]),
            (vec![], all(longest)),
            (all(conversation.sent.len()), all(longest)),
        ];
        let places_sent = places(choose, conversation.sent.len());
        tries.extend(places_sent.into_iter().map(|place| (vec![place], vec![])));
        tries.extend(places(choose, longest).into_iter().map(|place| (vec![], vec![place])));
        for _ in 0..10 {
            let mut some = |len: usize| (0..5).map(|_| choose.within(1, len)).collect::<Vec<_>>();
            let sent = some(conversation.sent.len());
            tries.push((sent, some(longest)));
        }
        for (cuts, answer_cuts) in tries {
            let cut = conversation.play(&cuts, &answer_cuts);
            // A reset may take bytes along that were on their way.
            let same =
                if cut.reset && whole.reset { cut.reached == whole.reached } else { cut == whole };
            if !same {
                let sent = conversation.sent.escape_ascii();
                let at = |cuts: &[usize]| {
                    if cuts.len() > 9 { "every byte".into() } else { format!("{cuts:?}") }
                };
                panic!(
                    "seed {seed}, cut at {} and {}: {sent}\n{cut}\nWHOLE {whole}",
                    at(&cuts),
                    at(&answer_cuts)
                );
            }
        }
    }
    assert!(complete as u64 > conversations / 2, "only {complete} requests reached the app");
}

#[test]
fn honest_conversations_mean_the_same_in_every_cut() {
    try_all(60, false);
}

#[test]
fn damaged_conversations_mean_the_same_in_every_cut() {
    try_all(120, true);
}
