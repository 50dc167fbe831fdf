//! What a message means, in any version.

use selvedge_core::http::Scratch;
use selvedge_core::http1::{Framing, ResponseTo, parse_request, parse_response};
use selvedge_core::limits::Limits;

use super::hop::Message;
use crate::traffic::wire::Field;

/// What must be the same at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// Method, path and authority, or the status.
    line: Vec<String>,
    /// What goes end to end, in order, with names in lower case.
    fields: Vec<Field>,
    framing: Length,
    /// What is said of a body that is not sent.
    announced: Length,
    /// Trailers are accepted; a 100 is waited for; another protocol is asked for; it is gRPC.
    flags: [bool; 4],
    body: Vec<u8>,
    trailers: Vec<Field>,
}

/// How long a body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// There is none.
    Nothing,
    Known(u64),
    /// It ends when it ends.
    Open,
}

impl Meaning {
    /// Is `other` the same, but for trailers that may not go on?
    pub(super) fn passes_as(&self, other: &Meaning) -> bool {
        let mut mine = self.trailers.iter();
        let kept = other.trailers.iter().all(|field| mine.any(|own| own == field));
        kept && *other == Meaning { trailers: other.trailers.clone(), ..self.clone() }
    }
}

impl From<Framing> for Length {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::None => Length::Nothing,
            Framing::Length(length) => Length::Known(length),
            Framing::Chunked | Framing::UntilClose => Length::Open,
        }
    }
}

/// Who is asked where nobody is: the engine puts the name of the service there.
pub(super) const NOBODY: &str = "nobody.example";

/// As the engine has them, with room for what translation adds.
pub(super) fn limits() -> Limits {
    Limits { header_count: Limits::MAX_HEADER_COUNT, ..Limits::default() }
}

/// Written anew by each hop, or for one hop only.
const HOP: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "l5d-orig-proto",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `told`: the fields that go end to end, if the head has others.
pub(super) fn of_request(message: &Message, told: Option<&[Field]>) -> Meaning {
    let mut scratch = Scratch::default();
    let request = parse_request(&message.head, &mut scratch, &limits());
    let request = request.unwrap_or_else(|reason| panic!("{reason:?}: {message:?}"));
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let slash = if request.path.starts_with(b"?") { "/" } else { "" };
    let fields = request.head.fields;
    let upgrade = fields.iter().find(|field| field.name.eq_ignore_ascii_case(b"upgrade"));
    // HTTP/2 has one place for it, and h2c is none to go to.
    let protocol = upgrade.map(|field| text(field.value)).unwrap_or_default();
    let protocol = protocol.split(", ").find(|name| *name != "h2c").unwrap_or_default().to_owned();
    let authority = request.authority.unwrap_or(NOBODY.as_bytes());
    let mut fields = end_to_end(told, fields.iter().map(|f| (f.name, f.value)));
    if !request.expect_continue {
        // HTTP/1.0 waits for nothing.
        fields.retain(|(name, _)| name != "expect");
    }
    Meaning {
        line: vec![
            text(request.head.method),
            format!("{slash}{}", text(request.path)),
            text(authority),
            if request.upgrade { protocol } else { String::new() },
        ],
        fields,
        framing: request.framing.into(),
        announced: Length::Nothing,
        flags: [request.te_trailers, request.expect_continue, request.upgrade, request.grpc],
        body: message.body.clone(),
        trailers: message.trailer_fields(),
    }
}

/// `method`: what it answers.
pub(super) fn of_response(message: &Message, method: &str, told: Option<&[Field]>) -> Meaning {
    let mut scratch = Scratch::default();
    let response = parse_response(&message.head, &mut scratch, &limits(), to(method));
    let response = response.unwrap_or_else(|reason| panic!("{reason:?}: {message:?}"));
    let fields = response.head.fields.iter().map(|field| (field.name, field.value));
    let announced = match response.announced.into() {
        // HTTP/2 cannot say that a body that is not sent would be chunked.
        Length::Open => Length::Nothing,
        announced => announced,
    };
    Meaning {
        line: vec![response.head.status.to_string()],
        fields: end_to_end(told, fields),
        framing: response.framing.into(),
        announced,
        flags: [response.grpc_status.is_some(), false, false, false],
        body: message.body.clone(),
        trailers: message.trailer_fields(),
    }
}

/// What a response answers, as far as its framing depends on it.
pub(super) fn to(method: &str) -> ResponseTo {
    ResponseTo { is_head: method == "HEAD", is_connect: method == "CONNECT" }
}

fn end_to_end<'a>(
    told: Option<&'a [Field]>,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Vec<Field> {
    let fields: Vec<(&[u8], &[u8])> = match told {
        Some(told) => told.iter().map(|(name, value)| (name.as_bytes(), &value[..])).collect(),
        None => fields.collect(),
    };
    let mut kept: Vec<Field> = Vec::new();
    for (name, value) in fields {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        if HOP.contains(&name.as_str()) {
            continue;
        }
        // RFC 9113 §8.2.3: crumbs are one field in HTTP/1.
        let cookie = kept.iter_mut().find(|(other, _)| name == "cookie" && *other == name);
        match cookie {
            Some((_, cookies)) => cookies.extend([b"; ", value].concat()),
            None => kept.push((name, value.to_vec())),
        }
    }
    kept
}
