//! A grammar of honest requests: what is sent, and what the far side must get of it.

use super::content::{content, request_key, token};
use super::wire::Field;
use crate::choose::{Choose, pick, weighted};

/// An honest request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its number, which its `X-Id` and its body are made of.
    pub id: u32,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// How much of that is before the body.
    pub head_len: usize,
    /// The method.
    pub method: &'static str,
    /// Sent as HTTP/1.0.
    pub http10: bool,
    /// The client would use the connection again.
    pub keep_alive: bool,
    /// The target that the app must see, if the proxy rewrites an absolute one.
    pub target: String,
    /// Where it goes, with a port; `None` without a Host.
    pub authority: Option<String>,
    /// What goes end to end, in order, Host included (unless there is none in the request).
    pub fields: Vec<Field>,
    /// The body.
    pub body: Body,
    /// It asks for another protocol.
    pub upgrade: bool,
    /// It accepts trailers.
    pub te: bool,
    /// It waits for a 100.
    pub expect: bool,
    /// The user that it says it is of, in a field and a cookie.
    pub user: Option<usize>,
}

/// A body, and how it is framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// None.
    Nothing,
    /// So many bytes.
    Length(usize),
    /// Chunks of these sizes, and whether a trailer follows.
    Chunked(Vec<usize>, bool),
    /// So many bytes, to the end of the connection. Responses only.
    UntilClose(usize),
}

impl Body {
    /// How many bytes of data it has.
    pub fn len(&self) -> usize {
        match self {
            Body::Nothing => 0,
            Body::Length(len) | Body::UntilClose(len) => *len,
            Body::Chunked(sizes, _) => sizes.iter().sum(),
        }
    }

    /// Is there no data?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The field that frames it.
    pub(crate) fn field(&self) -> Option<(&'static str, String)> {
        match self {
            Body::Nothing | Body::UntilClose(_) => None,
            Body::Length(len) => Some(("Content-Length", len.to_string())),
            Body::Chunked(..) => Some(("Transfer-Encoding", "chunked".to_owned())),
        }
    }

    /// What is sent of it: the content called `key`, and a trailer made of `id`.
    pub(crate) fn encode(&self, choose: &mut dyn Choose, key: u32, id: u32, out: &mut Vec<u8>) {
        match self {
            Body::Nothing => {}
            Body::Length(len) | Body::UntilClose(len) => out.extend(content(key, 0, *len)),
            Body::Chunked(sizes, _) => {
                let mut at = 0;
                for &size in sizes {
                    let line =
                        pick(choose, &[Line::Plain, Line::Upper, Line::Zeros, Line::Extended]);
                    out.extend_from_slice(line.spell(size).as_bytes());
                    out.extend(content(key, at, size));
                    out.extend_from_slice(b"\r\n");
                    at += size;
                }
                out.extend_from_slice(b"0\r\n");
                out.extend(self.trailer_section(id).unwrap_or(b"\r\n".to_vec()));
            }
        }
    }

    /// What follows the data of a body that has trailers: a section. One field frames: it must not
    /// be passed on.
    pub(crate) fn trailer_section(&self, id: u32) -> Option<Vec<u8>> {
        let lines = || format!("X-Sum: {}\r\nContent-Length: 7\r\n\r\n", token(id)).into_bytes();
        matches!(self, Body::Chunked(_, true)).then(lines)
    }

    /// The trailers that arrive.
    pub(crate) fn trailers(&self, id: u32) -> Vec<Field> {
        match self {
            Body::Chunked(_, true) => vec![("X-Sum".to_owned(), token(id).into_bytes())],
            _ => Vec::new(),
        }
    }
}

/// How a chunk size is spelled.
#[derive(Clone, Copy)]
enum Line {
    Plain,
    Upper,
    Zeros,
    Extended,
}

impl Line {
    fn spell(self, size: usize) -> String {
        match self {
            Line::Plain => format!("{size:x}\r\n"),
            Line::Upper => format!("{size:X}\r\n"),
            Line::Zeros => format!("{size:08x}\r\n"),
            Line::Extended => format!("{size:x};a=b;c=\"\\\"d \"\r\n"),
        }
    }
}

/// What may be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The number of the request.
    pub id: u32,
    /// The authorities to choose from.
    pub authorities: &'a [&'a str],
    /// The client was redirected: an absolute target stays absolute.
    pub redirected: bool,
    /// The largest body.
    pub largest: usize,
    /// It may be a CONNECT, or ask for an upgrade.
    pub tunnels: bool,
    /// It may be of one of so many users.
    pub users: usize,
}

/// Sizes that something happens at.
const SIZES: [usize; 13] =
    [0, 1, 2, 15, 16, 100, 1023, 1024, 5000, 16_384, 40_000, 100_000, 300_000];

pub(crate) fn size(choose: &mut dyn Choose, largest: usize) -> usize {
    let most = SIZES.iter().filter(|&&size| size <= largest).count();
    SIZES[choose.below(most)]
}

pub(crate) fn chunks(choose: &mut dyn Choose, largest: usize) -> Vec<usize> {
    let mut left = largest;
    let count = choose.below(4);
    let mut sizes = Vec::new();
    for _ in 0..count {
        let size = size(choose, left.max(1)).max(1);
        left = left.saturating_sub(size);
        sizes.push(size);
    }
    sizes
}

/// A field line as it is sent, and what arrives of it.
pub(crate) struct FieldLine {
    pub(crate) sent: Vec<u8>,
    pub(crate) arrives: Option<Field>,
}

impl FieldLine {
    /// One that goes end to end.
    pub(crate) fn end_to_end(name: &str, value: &[u8]) -> Self {
        Self::spelled(name, &[b" ", value].concat(), value)
    }

    /// The same, with other whitespace.
    pub(crate) fn spelled(name: &str, sent: &[u8], value: &[u8]) -> Self {
        FieldLine {
            sent: [name.as_bytes(), b":", sent, b"\r\n"].concat(),
            arrives: Some((name.to_owned(), value.to_vec())),
        }
    }

    /// One that the proxy takes out or writes anew.
    pub(crate) fn hop(name: &str, value: &str) -> Self {
        FieldLine { sent: format!("{name}: {value}\r\n").into_bytes(), arrives: None }
    }
}

/// Fields that say nothing to a proxy, and fields that are for one hop only.
pub(crate) fn extras(choose: &mut dyn Choose, close: Option<bool>, lines: &mut Vec<FieldLine>) {
    let mut connection = match close {
        None => String::new(),
        Some(true) => pick(choose, &["close", "Close", "x-a, close"]).to_owned(),
        Some(false) => pick(choose, &["keep-alive", "Keep-Alive"]).to_owned(),
    };
    for _ in 0..choose.below(4) {
        let line = match choose.below(10) {
            0 => FieldLine::end_to_end("Accept", b"*/*"),
            1 => FieldLine::end_to_end("cookie", b"a=b; c=\"d\""),
            2 => FieldLine::spelled("X-Empty", b"", b""),
            3 => FieldLine::end_to_end("X-High", b"\x80\xff \xc3\xa4"),
            4 => FieldLine::spelled("x-spaces", b" \t v w\t ", b"v w"),
            5 => FieldLine::end_to_end("X-LONG", &[b'l'; 400]),
            6 => FieldLine::hop("Keep-Alive", "timeout=5"),
            7 => FieldLine::hop("Proxy-Connection", "keep-alive"),
            8 => {
                connection.insert_str(0, if connection.is_empty() { "X-Hop" } else { "X-Hop, " });
                FieldLine::hop("x-hop", "for one hop")
            }
            _ => FieldLine::end_to_end("Proxy-Authorization", b"basic x"),
        };
        let at = choose.below(lines.len() + 1);
        lines.insert(at, line);
    }
    if !connection.is_empty() {
        let at = choose.below(lines.len() + 1);
        lines.insert(at, FieldLine::hop(pick(choose, &["Connection", "connection"]), &connection));
    }
}

const METHODS: [&str; 8] = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "BREW"];

/// An honest request.
pub fn request(choose: &mut dyn Choose, ask: Ask<'_>) -> Request {
    let special = if ask.tunnels { weighted(choose, &[24, 1, 1]) } else { 0 };
    let http10 = special == 0 && choose.one_in(8);
    spell(choose, ask, special, http10)
}

/// An honest request, in the form of HTTP/1.1, that is to be sent in HTTP/2.
pub(crate) fn modern(choose: &mut dyn Choose, ask: Ask<'_>) -> Request {
    spell(choose, ask, 0, false)
}

fn spell(choose: &mut dyn Choose, ask: Ask<'_>, special: usize, http10: bool) -> Request {
    let connect = special == 1;
    let method = if connect { "CONNECT" } else { pick(choose, &METHODS) };
    let spelled = pick(choose, ask.authorities);
    let authority = normalize(spelled);
    let body = if connect { Body::Nothing } else { request_body(choose, http10, ask.largest) };
    let form =
        if connect { Form::Authority } else { pick(choose, &[Form::Origin, Form::Absolute]) };
    let asterisk = method == "OPTIONS" && form == Form::Origin && choose.flip();
    let path = format!("/r/{}?q", token(ask.id));
    let (sent, target) = match form {
        Form::Origin if asterisk => ("*".to_owned(), "*".to_owned()),
        Form::Origin => (path.clone(), path),
        Form::Absolute => {
            let absolute = format!("http://{spelled}{path}");
            (absolute.clone(), if ask.redirected { absolute } else { path })
        }
        Form::Authority => (authority.clone(), authority.clone()),
    };
    // Host of an absolute target means nothing, and is replaced by what the target says.
    let has_host = !http10 || choose.flip();
    let host = match form {
        Form::Origin => spelled,
        Form::Absolute => pick(choose, &[spelled, "other.example"]),
        Form::Authority => &authority,
    };
    let arrives = match form {
        Form::Origin | Form::Absolute => spelled,
        Form::Authority => &authority,
    };
    let mut lines = vec![FieldLine::end_to_end("X-Id", token(ask.id).as_bytes())];
    if has_host {
        let sent = format!(" {host}").into_bytes();
        lines.insert(choose.below(2), FieldLine::spelled("Host", &sent, arrives.as_bytes()));
    }
    let user = (ask.users > 0 && !choose.one_in(8)).then(|| choose.below(ask.users));
    if let Some(user) = user {
        lines.push(FieldLine::end_to_end("X-User", format!("u{user}").as_bytes()));
        lines.push(FieldLine::end_to_end("Cookie", format!("user=u{user}").as_bytes()));
    }
    if let Some((name, value)) = body.field() {
        let name = if choose.flip() { name.to_ascii_lowercase() } else { name.to_owned() };
        lines.push(FieldLine::hop(&name, &value));
    }
    let expect = !http10 && !body.is_empty() && choose.one_in(6);
    if expect {
        lines.push(FieldLine::end_to_end("Expect", b"100-continue"));
    }
    let upgrade = special == 2;
    let te = !http10 && !upgrade && choose.one_in(8);
    hop_by_hop(choose, [upgrade, te, !http10], &mut lines);
    if choose.one_in(12) {
        lines.push(FieldLine::end_to_end("Content-Type", b"application/grpc+proto"));
    }
    // HTTP/1.0 closes unless it says otherwise, HTTP/1.1 the other way round.
    let says = choose.one_in(8);
    let keep_alive = says == http10;
    extras(choose, (says && !upgrade).then_some(!http10), &mut lines);
    let version = if http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut bytes = b"\r\n".repeat(if choose.one_in(12) { 2 } else { 0 });
    bytes.extend_from_slice(format!("{method} {sent} {version}\r\n").as_bytes());
    for line in &lines {
        bytes.extend_from_slice(&line.sent);
    }
    bytes.extend_from_slice(b"\r\n");
    let head_len = bytes.len();
    body.encode(choose, request_key(ask.id), ask.id, &mut bytes);
    let known = has_host || form != Form::Origin;
    let mut fields: Vec<Field> = lines.into_iter().filter_map(|line| line.arrives).collect();
    if known && !has_host {
        fields.insert(0, ("Host".to_owned(), arrives.as_bytes().to_vec()));
    }
    Request {
        id: ask.id,
        bytes,
        head_len,
        method,
        http10,
        keep_alive: keep_alive || upgrade,
        target,
        authority: known.then_some(authority),
        fields,
        body,
        upgrade,
        te,
        expect,
        user,
    }
}

/// What is asked of the next hop: another protocol, trailers, or HTTP/2 perhaps.
fn hop_by_hop(choose: &mut dyn Choose, [upgrade, te, h2c]: [bool; 3], lines: &mut Vec<FieldLine>) {
    if upgrade {
        lines.push(FieldLine::hop("Connection", "keep-alive, Upgrade"));
        lines.push(FieldLine::hop("Upgrade", pick(choose, &["websocket", "h2c, websocket"])));
    } else if te {
        lines.push(FieldLine::hop("TE", "trailers"));
        lines.push(FieldLine::hop("Connection", "TE"));
    } else if h2c && choose.one_in(10) {
        lines.push(FieldLine::hop("Connection", "Upgrade, HTTP2-Settings"));
        lines.push(FieldLine::hop("Upgrade", "h2c"));
        lines.push(FieldLine::hop("HTTP2-Settings", "AAMAAABkAAQAAP__"));
    }
}

/// The forms of a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Origin,
    Absolute,
    Authority,
}

fn request_body(choose: &mut dyn Choose, http10: bool, largest: usize) -> Body {
    match choose.below(4) {
        0 | 1 => Body::Nothing,
        2 => Body::Length(size(choose, largest)),
        _ if http10 => Body::Length(0),
        _ => Body::Chunked(chunks(choose, largest), choose.flip()),
    }
}

/// Lower case, with a port.
fn normalize(authority: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let port = lower.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if port { lower } else { format!("{}:80", lower.trim_end_matches(':')) }
}

/// One of the methods that there are.
pub(crate) fn known_method(method: &[u8]) -> &'static str {
    let all = METHODS.iter().chain(&["CONNECT"]);
    all.into_iter().find(|known| known.as_bytes() == method).unwrap_or(&"BREW")
}

/// May this method be tried again?
pub(crate) fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "PUT" | "HEAD" | "DELETE" | "OPTIONS")
}

/// How much of a request tells, whatever follows, that it is HTTP: its first line.
pub(crate) fn tells(bytes: &[u8]) -> usize {
    let line = bytes.split(|&byte| byte == b'\n').find(|line| line.len() > 1);
    (5 + line.map_or(0, <[u8]>::len)).min(bytes.len().saturating_sub(1))
}

/// Damages bytes in one place or some.
pub fn damage(choose: &mut dyn Choose, bytes: &mut Vec<u8>) {
    for _ in 0..=choose.below(3) {
        let at = choose.below(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        let byte = pick(choose, b"\r\n\0 \t:;,0aZ-\x7f\xff\x01/\"H");
        match choose.below(6) {
            0 if !bytes.is_empty() => bytes[at] = byte,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            3 => {
                let n = choose.below(20).min(bytes.len() - at);
                let again = bytes[at..at + n].to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let line = pick(choose, &SMUGGLES);
                let end = bytes.windows(2).position(|pair| pair == b"\r\n").map_or(0, |at| at + 2);
                bytes.splice(end..end, line.bytes());
            }
            _ => bytes.insert(at, byte),
        }
    }
}

/// Lines that change what a message is.
const SMUGGLES: [&str; 12] = [
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Content-Length: 3, 4\r\n",
    "Content-Length : 3\r\n",
    " folded\r\n",
    "Host: other.example\r\n",
    "Connection: close, content-length, host\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "Expect: 100-continue\r\n",
    "X: y\nContent-Length: 1\r\n",
];
