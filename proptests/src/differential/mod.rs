//! HTTP/1 differential: what we accept and forward is read alike by parsers that share nothing with
//! ours.
//!
//! Two questions are asked of every input:
//!
//! - *Forwarded.* If we accept the message, then the other parsers accept the bytes that we forward,
//!   and read the message that we meant: method, target or status, fields in order, body, trailers;
//!   and where it ends, which the message after it shows. This is what request smuggling violates.
//! - *Direct.* Does the other parser accept the very input, and as the same message? We need not
//!   agree, but each disagreement is [listed](Disagreements) with the clause that allows ours.
//!
//! [`hyper`] is driven in this process, over memory. `tests/http1_differential` runs Node's parser
//! and Python's h11 besides, as programs.

use std::fmt::{self, Display};

use selvedge_core::http1::ResponseTo;

mod disagreements;
pub mod hyper;
mod ours;

pub use disagreements::{Disagreement, Disagreements, Question, Verdict};
pub use ours::{Refusal, Taken, take};

/// A name and a value, without whitespace around it.
pub type Field = (Vec<u8>, Vec<u8>);

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's.
    Request,
    /// A client's whose connection was redirected to us: an absolute target stays absolute.
    Redirected,
    /// A server's, in answer to this.
    Response(ResponseTo),
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [
        Kind::Request,
        Kind::Response(ResponseTo { is_head: false, is_connect: false }),
        Kind::Response(ResponseTo { is_head: true, is_connect: false }),
        Kind::Response(ResponseTo { is_head: false, is_connect: true }),
        Kind::Redirected,
    ];

    /// The method of the request that a response answers.
    pub fn answers(self) -> &'static str {
        match self {
            Kind::Response(to) if to.is_head => "HEAD",
            Kind::Response(to) if to.is_connect => "CONNECT",
            _ => "GET",
        }
    }

    /// A message that may follow on the same connection: whoever reads it whole agrees on where the
    /// one before it ended.
    pub fn next_message(self) -> &'static [u8] {
        match self {
            Kind::Request | Kind::Redirected => b"GET /next HTTP/1.1\r\nHost: next.example\r\n\r\n",
            Kind::Response(_) => b"HTTP/1.1 404 Next\r\nContent-Length: 0\r\n\r\n",
        }
    }
}

/// How a message begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Start {
    /// Method and target.
    Request(Vec<u8>, Vec<u8>),
    /// Status.
    Response(u16),
}

/// What a reader made of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Method and target, or status.
    pub start: Start,
    /// The fields, in order.
    pub fields: Vec<Field>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailers, in order.
    pub trailers: Vec<Field>,
}

/// What a reader made of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The complete messages, without 1xx.
    pub messages: Vec<Message>,
    /// What it says is wrong, if it says so.
    pub error: Option<String>,
}

/// How exactly a reader keeps fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they came.
    Kept,
    /// Only among fields of the same name.
    ByName,
}

impl Message {
    /// The same for all who read the same: without the fields that frame, which readers may tidy and
    /// the body shows, or that are for one hop; names in lower case.
    #[must_use]
    pub fn canonical(&self, order: Order) -> Message {
        let fields = |fields: &[Field]| {
            let kept = fields.iter().filter(|(name, _)| !is_framing(name));
            let mut kept: Vec<Field> =
                kept.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
            if order == Order::ByName {
                kept.sort_by(|(one, _), (other, _)| one.cmp(other));
            }
            kept
        };
        Message {
            start: self.start.clone(),
            fields: fields(&self.fields),
            body: self.body.clone(),
            trailers: fields(&self.trailers),
        }
    }
}

fn is_framing(name: &[u8]) -> bool {
    const FRAMING: [&[u8]; 5] =
        [b"connection", b"content-length", b"te", b"transfer-encoding", b"upgrade"];
    FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

impl Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Request(method, target) => {
                writeln!(f, "{} {}", method.escape_ascii(), target.escape_ascii())?;
            }
            Start::Response(status) => writeln!(f, "{status}")?,
        }
        for (name, value) in &self.fields {
            writeln!(f, "  {}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        writeln!(f, "  body {}", self.body.escape_ascii())?;
        for (name, value) in &self.trailers {
            writeln!(f, "  trailer {}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        Ok(())
    }
}

/// A reader that is not ours.
pub struct Reader<'a> {
    /// Its name in the list of disagreements.
    pub name: &'a str,
    /// What it keeps of the order of fields.
    pub order: Order,
    /// How it spells a target that it was given as this.
    pub target: fn(&[u8]) -> Vec<u8>,
}

/// What we made of the input, to be compared with what others make of it.
pub struct Input<'a> {
    /// Whose message.
    pub kind: Kind,
    /// The input.
    pub bytes: &'a [u8],
    /// What we made of it.
    pub ours: Result<Taken, Refusal>,
}

impl<'a> Input<'a> {
    /// Reads the first message of `bytes` as the proxy does.
    pub fn new(kind: Kind, bytes: &'a [u8]) -> Self {
        Input { kind, bytes, ours: take(kind, bytes) }
    }

    /// What is forwarded, and the message after it if the connection can carry one.
    pub fn forwarded(&self) -> Option<[&[u8]; 2]> {
        let taken = self.ours.as_ref().ok()?;
        Some([&taken.forwarded, if taken.is_last { b"" } else { self.kind.next_message() }])
    }

    /// Compares with what another reader made of what is [forwarded](Self::forwarded).
    ///
    /// # Errors
    /// What they disagree about, unless it is listed.
    pub fn check_forwarded(
        &self,
        reader: &Reader<'_>,
        theirs: &Reading,
        listed: &Disagreements,
    ) -> Result<(), String> {
        let Ok(taken) = &self.ours else { return Ok(()) };
        let mut meant = vec![taken.meant.clone()];
        if !taken.is_last {
            let next = take(self.kind, self.kind.next_message());
            meant.push(next.map_err(|refusal| refusal.to_string())?.meant);
        }
        let meant: Vec<_> = meant.iter().map(|message| reader.spell(message)).collect();
        let read: Vec<_> =
            theirs.messages.iter().map(|message| message.canonical(reader.order)).collect();
        let verdict = Verdict::of(meant == read, theirs);
        if verdict == Verdict::Agree || listed.allow(Question::Forwarded, reader.name, "", &verdict)
        {
            return Ok(());
        }
        let show =
            |messages: &[Message]| messages.iter().map(ToString::to_string).collect::<String>();
        Err(format!(
            "{} reads what we forward otherwise: {verdict}\n{:?} {}\nforwarded {}\nmeant {}read {}",
            reader.name,
            self.kind,
            self.bytes.escape_ascii(),
            taken.forwarded.escape_ascii(),
            show(&meant),
            show(&read),
        ))
    }

    /// Compares with what another reader made of the input.
    ///
    /// # Errors
    /// What they disagree about, unless it is listed.
    pub fn check_direct(
        &self,
        reader: &Reader<'_>,
        theirs: &Reading,
        listed: &Disagreements,
    ) -> Result<(), String> {
        let read = theirs.messages.first().map(|message| message.canonical(reader.order));
        let (verdict, reason) = match (&self.ours, read) {
            (Ok(taken), Some(read)) if reader.spell(&taken.direct) == read => return Ok(()),
            (Ok(_), Some(_)) => (Verdict::Differ, String::new()),
            (Ok(_), None) => (Verdict::of(false, theirs), String::new()),
            // Of a tunnel there is nothing to compare.
            (Err(_), None) | (Err(Refusal::Tunnel), _) => return Ok(()),
            (Err(refusal), Some(_)) => (Verdict::Accepted, refusal.label()),
        };
        if listed.allow(Question::Direct, reader.name, &reason, &verdict) {
            return Ok(());
        }
        let ours = match &self.ours {
            Ok(taken) => taken.direct.to_string(),
            Err(refusal) => format!("refused, {refusal}\n"),
        };
        let theirs = theirs.messages.first().map_or(String::new(), ToString::to_string);
        Err(format!(
            "{} reads the input otherwise: {verdict}\n{:?} {}\nours {ours}theirs {theirs}",
            reader.name,
            self.kind,
            self.bytes.escape_ascii(),
        ))
    }
}

impl Reader<'_> {
    fn spell(&self, message: &Message) -> Message {
        let mut message = message.canonical(self.order);
        if let Start::Request(_, target) = &mut message.start {
            *target = (self.target)(target);
        }
        message
    }
}

/// What must hold of any bytes, of us and hyper; the first byte says whose message they are. For
/// fuzzers.
///
/// # Panics
/// If we and hyper disagree in a way that is not listed.
pub fn http1_differential(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let kind = Kind::ALL[usize::from(choice) % Kind::ALL.len()];
    if let Err(error) = check_hyper(&Input::new(kind, bytes), Disagreements::shared()) {
        panic!("{error}");
    }
}

/// Asks both questions of hyper.
///
/// # Errors
/// What we disagree about, unless it is listed.
pub fn check_hyper(input: &Input<'_>, listed: &Disagreements) -> Result<(), String> {
    if let Some([forwarded, next]) = input.forwarded() {
        let theirs = hyper::read(input.kind, &[forwarded, next]);
        input.check_forwarded(&hyper::READER, &theirs, listed)?;
    }
    let theirs = hyper::read(input.kind, &[input.bytes]);
    input.check_direct(&hyper::READER, &theirs, listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"POST http://b.example/x HTTP/1.1\r\nHost: a.example\r\nA: b\r\n\
        Transfer-Encoding: chunked\r\n\r\n3;c=d\r\nabc\r\n0\r\nSum: 1\r\nHost: evil\r\n\r\n";

    #[test]
    fn honest_messages_are_read_alike() {
        let listed = Disagreements::new();
        let input = Input::new(Kind::Request, REQUEST);
        assert_eq!(check_hyper(&input, &listed), Ok(()));
        let response =
            b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.0 200\r\nA: b\r\na:c\r\n\r\nuntil the end";
        assert_eq!(check_hyper(&Input::new(Kind::Redirected, REQUEST), &listed), Ok(()));
        for kind in &Kind::ALL[1..4] {
            assert_eq!(check_hyper(&Input::new(*kind, response), &listed), Ok(()));
        }
        assert!(listed.all().iter().all(|line| line.used.get() == 0));
    }

    #[test]
    fn whatever_is_read_otherwise_is_noticed() {
        let listed = Disagreements::new();
        let input = Input::new(Kind::Request, REQUEST);
        let good = hyper::read(Kind::Request, &input.forwarded().expect("accepted"));
        assert_eq!(input.check_forwarded(&hyper::READER, &good, &listed), Ok(()));
        let wrong: [fn(&mut Reading); 7] = [
            |reading| drop(reading.messages.pop()),
            |reading| reading.messages.push(reading.messages[0].clone()),
            |reading| reading.messages[0].body.push(b'd'),
            |reading| drop(reading.messages[0].trailers.pop()),
            |reading| reading.messages[0].fields[0].1.push(b'x'),
            |reading| reading.messages[0].start = Start::Request(b"POST".into(), b"/".into()),
            |reading| *reading = Reading { error: Some("no".into()), ..Reading::default() },
        ];
        for change in wrong {
            let mut reading = good.clone();
            change(&mut reading);
            let result = input.check_forwarded(&hyper::READER, &reading, &listed);
            assert!(result.is_err(), "{reading:?}");
        }
        // A refusal that is listed is one only if nothing else was read.
        let node = Reader { name: "node", order: Order::ByName, target: <[u8]>::to_vec };
        let mut reading =
            Reading { error: Some("HPE_INVALID_METHOD: GET".into()), ..Reading::default() };
        assert_eq!(input.check_forwarded(&node, &reading, &listed), Ok(()));
        reading.messages = vec![good.messages[1].clone()];
        assert!(input.check_forwarded(&node, &reading, &listed).is_err());
    }
}
