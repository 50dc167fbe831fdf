//! A peer's end of a connection, of either version: what comes, as events of messages; what goes.

use selvedge_core::http2::{Config, ErrorCode};
use selvedge_core::time::Time;

use super::plan::Body;
use crate::h2::mux::{Happened, Mux};
use crate::traffic::wire::{Framing, Head, Part, Reader};

/// Something that came; in HTTP/1, messages are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// First line and fields.
    Head(String),
    Data(Vec<u8>),
    /// The end, and its trailers.
    End(String),
    Reset(u32),
    /// The connection is over.
    Closed,
}

#[derive(Debug)]
pub(super) enum Peer {
    /// An app that has not heard enough.
    Fresh(Vec<u8>, Config),
    Http1(Reader, u32),
    Http2(Box<Mux>),
}

impl Peer {
    pub(super) fn client(http2: bool, now: Time) -> Self {
        if http2 {
            Peer::Http2(Box::new(Mux::client(Config::default(), now)))
        } else {
            Peer::Http1(Reader::default(), 0)
        }
    }

    /// `stingy`: it gives credit for a byte.
    pub(super) fn app(stingy: bool) -> Self {
        let mut config = Config::default();
        if stingy {
            config.settings.initial_window_size = 1;
        }
        Peer::Fresh(Vec::new(), config)
    }

    pub(super) fn http2(&mut self) -> Option<&mut Mux> {
        match self {
            Peer::Http2(mux) => Some(mux),
            _ => None,
        }
    }

    /// Bytes arrive: what that means, by stream or number of the message.
    pub(super) fn receive(&mut self, bytes: &[u8], now: Time) -> Result<Vec<(u32, Seen)>, String> {
        if let Peer::Fresh(first, config) = self {
            first.extend_from_slice(bytes);
            if first.len() < 4 {
                return Ok(Vec::new());
            }
            let first = std::mem::take(first);
            *self = if first.starts_with(b"PRI ") {
                let stingy = config.settings.initial_window_size == 1;
                let mut mux = Mux::server(config.clone(), now);
                mux.reads = !stingy;
                Peer::Http2(Box::new(mux))
            } else {
                Peer::Http1(Reader::default(), 0)
            };
            return self.receive(&first, now);
        }
        match self {
            Peer::Http2(mux) => {
                let happened = mux.receive(bytes, now)?;
                Ok(happened.into_iter().flat_map(|(stream, what)| seen(stream, what)).collect())
            }
            Peer::Http1(reader, number) => {
                reader.feed(bytes);
                let mut framing = |head: &Head| match head.framing()? {
                    Framing::UntilClose => Ok(Framing::Nothing),
                    framing => Ok(framing),
                };
                let mut all = Vec::new();
                while let Some(part) = reader.next(&mut framing)? {
                    let what = match part {
                        Part::Head(head) => Seen::Head(text(&head)),
                        Part::Data(data) => Seen::Data(data),
                        Part::End(fields) => Seen::End(section(&fields)),
                    };
                    let ends = matches!(what, Seen::End(_));
                    all.push((*number, what));
                    *number += u32::from(ends);
                }
                Ok(all)
            }
            Peer::Fresh(..) => Ok(Vec::new()),
        }
    }

    /// What it wants to send beyond what it was told to.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.http2().map(Mux::take).unwrap_or_default()
    }

    /// A whole answer; what of it goes out in HTTP/1.
    pub(super) fn answer(&mut self, stream: u32, status: u16, body: Body, bytes: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status} Told\r\n{}\r\n", body.field());
        let Peer::Http2(mux) = self else {
            let length = if body == Body::None { "Content-Length: 0\r\n" } else { "" };
            let head = head.replacen("\r\n", &format!("\r\n{length}"), 1);
            return [head.as_bytes(), &http1_body(body, bytes, true)].concat();
        };
        let ends = body.size() == 0 && !matches!(body, Body::Chunked(..));
        let head = head.replace("Transfer-Encoding: chunked\r\n", "");
        mux.answer(stream, head.as_bytes(), ends);
        if ends {
            return Vec::new();
        }
        let trailers = matches!(body, Body::Chunked(_, true));
        mux.send(stream, bytes, !trailers);
        if trailers {
            mux.trailers(stream, b"x-sum: 1\r\n\r\n");
        }
        Vec::new()
    }

    pub(super) fn reset(&mut self, stream: u32, code: ErrorCode) {
        if let Peer::Http2(mux) = self {
            mux.reset(stream, code);
        }
    }
}

/// A piece of a body as it goes out in HTTP/1.
pub(super) fn http1_body(body: Body, bytes: &[u8], last: bool) -> Vec<u8> {
    let Body::Chunked(_, trailers) = body else { return bytes.to_vec() };
    let mut out = Vec::new();
    if !bytes.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
    }
    if last {
        let section = if trailers { "x-sum: 1\r\n" } else { "" };
        out.extend_from_slice(format!("0\r\n{section}\r\n").as_bytes());
    }
    out
}

fn seen(stream: u32, what: Happened) -> Vec<(u32, Seen)> {
    let ended = |ends: bool| ends.then(|| Seen::End(String::new()));
    let all = match what {
        Happened::Head(head, ends) => {
            vec![Some(Seen::Head(String::from_utf8_lossy(&head).into())), ended(ends)]
        }
        Happened::Data(data, ends) => {
            vec![(!data.is_empty()).then_some(Seen::Data(data)), ended(ends)]
        }
        Happened::Trailers(fields) => {
            let fields = String::from_utf8_lossy(&fields);
            vec![Some(Seen::End(fields.trim_end().into()))]
        }
        Happened::Reset(code) => vec![Some(Seen::Reset(code.0))],
    };
    all.into_iter().flatten().map(|what| (stream, what)).collect()
}

fn text(head: &Head) -> String {
    let line = String::from_utf8_lossy(&head.line);
    format!("{line}\n{}", section(&head.fields))
}

fn section(fields: &[(String, Vec<u8>)]) -> String {
    let line = |(name, value): &(String, Vec<u8>)| {
        format!("{}: {}", name.to_ascii_lowercase(), String::from_utf8_lossy(value))
    };
    fields.iter().map(line).collect::<Vec<_>>().join("\r\n")
}
