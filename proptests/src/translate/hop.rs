//! One hop: a message is written, and read again.

use std::fmt::{self, Debug};

use bytes::BytesMut;
use selvedge_core::buf::OutQueue;
use selvedge_core::http::{Fields, Scratch, Version};
use selvedge_core::http1::{
    ConnectionOption, Framing, RequestRewrite, ResponseRewrite, encode_chunk_end,
    encode_chunk_start, encode_last_chunk, encode_request, encode_response, parse_request,
    parse_response,
};
use selvedge_core::http2::{self, Config, Connection, Event, Role, StreamKey};
use selvedge_core::time::Time;

use super::meaning::{NOBODY, limits, to};
use super::section;
use crate::traffic::wire::{self, Field, Head, Part, Reader};

/// A message, in the form that it has in HTTP/1.
#[derive(Clone)]
pub(super) struct Message {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// A section with its empty line, or nothing.
    pub(super) trailers: Vec<u8>,
}

impl Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [head, body, trailers] =
            [&self.head, &self.body, &self.trailers].map(|part| wire::show(part));
        write!(f, "{head} {body} {trailers}")
    }
}

impl Message {
    /// Its trailers, with names in lower case.
    pub(super) fn trailer_fields(&self) -> Vec<Field> {
        let lines = self.trailers.split(|&byte| byte == b'\n').filter(|line| line.len() > 1);
        let field = |line: &[u8]| {
            let colon = line.iter().position(|&byte| byte == b':').expect("a field");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            (name, line[colon + 1..].trim_ascii().to_vec())
        };
        lines.map(field).collect()
    }
}

// ---- HTTP/1 ----

pub(super) fn request_over_http1(message: &Message) -> Message {
    let mut scratch = Scratch::default();
    let request = parse_request(&message.head, &mut scratch, &limits()).expect("a request");
    let host = request.authority.unwrap_or(NOBODY.as_bytes());
    let rewrite = RequestRewrite { host, absolute: false, upgrade: request.upgrade };
    let mut out = BytesMut::new();
    encode_request(&mut out, &request, &rewrite);
    read(out, request.framing, message, &mut |head: &Head| {
        Ok(match head.framing()? {
            // A request without a word about it has no body.
            wire::Framing::UntilClose => wire::Framing::Nothing,
            framing => framing,
        })
    })
}

pub(super) fn response_over_http1(message: &Message, method: &str) -> Message {
    let mut scratch = Scratch::default();
    let response = parse_response(&message.head, &mut scratch, &limits(), to(method));
    let response = response.expect("a response");
    let framing = match response.framing {
        Framing::UntilClose => Framing::Chunked,
        framing => framing,
    };
    let connection = ConnectionOption::Nothing;
    let rewrite = ResponseRewrite { client: Version::Http11, connection, framing };
    let mut out = BytesMut::new();
    encode_response(&mut out, &response, &rewrite);
    read(out, framing, message, &mut |head: &Head| {
        let bodiless = method == "HEAD" || matches!(head.status(), 100..=199 | 204 | 304);
        Ok(if bodiless { wire::Framing::Nothing } else { head.framing()? })
    })
}

/// Does it ask for a tunnel? What follows it is no body.
pub(super) fn is_tunnel(message: &Message) -> bool {
    let mut scratch = Scratch::default();
    let request = parse_request(&message.head, &mut scratch, &limits());
    request.is_ok_and(|request| request.is_connect || request.upgrade)
}

/// Adds the body to the head that is written, and reads one message and nothing else.
fn read(
    mut out: BytesMut,
    framing: Framing,
    message: &Message,
    delimits: &mut dyn FnMut(&Head) -> Result<wire::Framing, String>,
) -> Message {
    let head = out.to_vec();
    if framing == Framing::Chunked {
        if !message.body.is_empty() {
            encode_chunk_start(&mut out, message.body.len());
            out.extend_from_slice(&message.body);
            encode_chunk_end(&mut out);
        }
        encode_last_chunk(&mut out, &message.trailers).expect("trailers");
    } else {
        out.extend_from_slice(&message.body);
    }
    let mut reader = Reader::default();
    reader.feed(&out);
    let (mut body, mut ends, mut heads, mut trailers) = (Vec::new(), 0, 0, Vec::new());
    loop {
        match reader.next(delimits) {
            Ok(Some(Part::Head(_))) => heads += 1,
            Ok(Some(Part::Data(data))) => body.extend(data),
            Ok(Some(Part::End(fields))) => {
                ends += 1;
                trailers = section(&fields);
            }
            Ok(None) => break,
            Err(error) => panic!("{error}: {}", wire::show(&out)),
        }
    }
    let rest = reader.rest();
    let once = (heads, ends, rest.len()) == (1, 1, 0);
    assert!(once, "{heads} heads, {ends} ends, {}: {}", wire::show(rest), wire::show(&out));
    Message { head, body, trailers }
}

// ---- HTTP/2 ----

/// One end of a connection.
pub(super) struct End {
    pub(super) connection: Connection,
    pub(super) tx: OutQueue,
    rx: BytesMut,
}

impl End {
    pub(super) fn new(role: Role) -> Self {
        let mut config = Config::default();
        config.settings.enable_connect_protocol = true;
        config.settings.initial_window_size = 1 << 20;
        let mut tx = OutQueue::default();
        let connection = match role {
            Role::Client => Connection::client(config, &mut tx, Time::ZERO),
            Role::Server => Connection::server(config, &mut tx, Time::ZERO),
        };
        End { connection, tx, rx: BytesMut::new() }
    }

    /// A client that has asked for something.
    pub(super) fn asking(method: &str) -> Self {
        let mut client = End::new(Role::Client);
        client.ask(method);
        client
    }

    fn ask(&mut self, method: &str) {
        let target = if method == "CONNECT" { "a:1" } else { "/" };
        let line = format!("{method} {target} HTTP/1.1\r\nHost: a:1\r\n\r\n");
        let mut scratch = Scratch::default();
        let request = parse_request(line.as_bytes(), &mut scratch, &limits()).expect("a request");
        let (connection, tx) = (&mut self.connection, &mut self.tx);
        connection.send_request(tx, &request, b"a:1", true, 0, Time::ZERO).expect("a stream");
    }

    /// Its bytes go to the other end.
    pub(super) fn push(&mut self, other: &mut End) {
        self.connection.flush(&mut self.tx, usize::MAX);
        let mut owned = Vec::new();
        self.tx.owned(&mut owned);
        let bytes = owned.concat();
        self.tx.wrote(bytes.len());
        other.rx.extend_from_slice(&bytes);
    }

    /// More bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.rx.extend_from_slice(bytes);
    }

    /// Takes what came; false if that broke the connection.
    pub(super) fn poll(&mut self, mut take: impl FnMut(Event<'_>)) -> bool {
        let (mut scratch, limits) = (http2::Scratch::default(), limits());
        loop {
            let (rx, tx) = (&mut self.rx, &mut self.tx);
            match self.connection.poll(rx, tx, &mut scratch, &limits, Time::ZERO) {
                Ok(Some(event)) => take(event),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn send_body(&mut self, key: StreamKey, message: &Message) {
        let queue = self.connection.body(key).expect("a stream that takes bytes");
        queue.take(&mut BytesMut::from(&message.body[..]), message.body.len());
        let end = message.trailers.is_empty();
        self.connection.body_added(key, message.body.len(), end);
        if !end {
            self.connection.send_trailers(&mut self.tx, key, &message.trailers).expect("trailers");
        }
    }
}

/// Two ends that have greeted each other.
fn pair() -> (End, End) {
    let (mut client, mut server) = (End::new(Role::Client), End::new(Role::Server));
    for _ in 0..2 {
        client.push(&mut server);
        assert!(server.poll(|_| {}));
        server.push(&mut client);
        assert!(client.poll(|_| {}));
    }
    (client, server)
}

/// What comes of one message, once it is complete.
#[derive(Default)]
pub(super) struct Got {
    head: Vec<u8>,
    body: Vec<u8>,
    trailers: Vec<u8>,
    pub(super) stream: Option<StreamKey>,
    end: bool,
}

impl Got {
    pub(super) fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Request { stream, request, end } => {
                self.stream = Some(stream);
                let (method, target) = (request.head.method, request.head.target);
                let line = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
                self.head = head(line, request.head.fields);
                if request.head.fields.iter().all(|field| !field.name.eq_ignore_ascii_case(b"host"))
                {
                    self.head.truncate(self.head.len() - 2);
                    self.head.extend(format!("Host: {NOBODY}\r\n\r\n").into_bytes());
                }
                self.end = end;
            }
            Event::Response { response, end, .. } => {
                let line = format!("HTTP/1.1 {} \r\n", response.head.status);
                self.head = head(line.into_bytes(), response.head.fields);
                self.end = end;
            }
            Event::Data { data, end, .. } => {
                self.body.extend_from_slice(&data);
                self.end = end;
            }
            Event::Trailers { fields, .. } => {
                self.trailers = fields.section().to_vec();
                self.end = true;
            }
            Event::Settings => {}
            other => panic!("{other:?}: {}", wire::show(&self.head)),
        }
    }

    /// The whole message, if it is.
    pub(super) fn message(self) -> Option<Message> {
        let Got { head, body, trailers, end, .. } = self;
        (end && !head.is_empty()).then_some(Message { head, body, trailers })
    }
}

/// A head as HTTP/1 has it.
fn head(mut line: Vec<u8>, fields: Fields<'_>) -> Vec<u8> {
    for field in fields {
        line.extend([field.name, b": ", field.value, b"\r\n"].concat());
    }
    line.extend(b"\r\n");
    line
}

pub(super) fn request_over_http2(message: &Message) -> Message {
    let (mut client, mut server) = pair();
    let mut scratch = Scratch::default();
    let request = parse_request(&message.head, &mut scratch, &limits()).expect("a request");
    let host = request.authority.unwrap_or(NOBODY.as_bytes());
    let tunnel = request.is_connect || request.upgrade;
    let end = !tunnel && matches!(request.framing, Framing::None | Framing::Length(0));
    let (connection, tx) = (&mut client.connection, &mut client.tx);
    let key = connection.send_request(tx, &request, host, end, 0, Time::ZERO).expect("a stream");
    if !end {
        client.send_body(key, message);
    }
    let mut got = Got::default();
    client.push(&mut server);
    assert!(server.poll(|event| got.note(event)), "{message:?}");
    got.message().unwrap_or_else(|| panic!("incomplete: {message:?}"))
}

pub(super) fn response_over_http2(message: &Message, method: &str) -> Message {
    let (mut client, mut server) = pair();
    client.ask(method);
    let mut asked = Got::default();
    client.push(&mut server);
    assert!(server.poll(|event| asked.note(event)));
    let key = asked.stream.expect("a request");
    let mut scratch = Scratch::default();
    let response = parse_response(&message.head, &mut scratch, &limits(), to(method));
    let response = response.expect("a response");
    let end = matches!(response.framing, Framing::None | Framing::Length(0));
    server.connection.send_response(&mut server.tx, key, &response, end);
    if !end {
        server.send_body(key, message);
    }
    let mut got = Got::default();
    server.push(&mut client);
    assert!(client.poll(|event| got.note(event)), "{message:?}");
    got.message().unwrap_or_else(|| panic!("incomplete: {message:?}"))
}
