//! Peers that speak HTTP/2, frame by frame: what they say and must see, written without the core's
//! help. What only the pace of things decides is answered and not written down: SETTINGS, credit,
//! PINGs, and how a body is cut into frames.

use std::fmt::Write as _;

use fluke_hpack::Decoder;
use selvedge_proptests::h2::wire::{ACK, END_STREAM, Frame, PREFACE};

use super::Stage;
use crate::net::Peer;

/// A list of fields.
pub(crate) type Fields<'a> = &'a [(&'a str, &'a str)];

/// What a peer knows of its connection.
pub(super) struct Streams {
    decoder: Decoder<'static>,
    /// What it saw, for the report.
    pub(super) log: String,
}

impl Stage {
    // ---- Who is there ----

    /// A client that speaks HTTP/2 to the outbound listener, with these SETTINGS.
    pub(crate) fn streams_client(&mut self, settings: &[(u16, u32)]) -> Peer {
        let peer = self.client();
        self.send(peer, PREFACE);
        self.greet(peer, settings);
        peer
    }

    /// The next connection to an app, which is of HTTP/2.
    #[track_caller]
    pub(crate) fn streams_app(&mut self, app: usize, settings: &[(u16, u32)]) -> Peer {
        let peer = self.app(app);
        self.sees(peer, PREFACE);
        self.greet(peer, settings);
        peer
    }

    fn greet(&mut self, peer: Peer, settings: &[(u16, u32)]) {
        let (decoder, log) = (Decoder::new(), String::new());
        self.seen[peer.0].streams = Some(Box::new(Streams { decoder, log }));
        self.say(peer, &Frame::settings(settings));
    }

    // ---- What a peer says ----

    pub(crate) fn say(&mut self, peer: Peer, frame: &Frame) {
        self.send(peer, frame.bytes());
    }

    pub(crate) fn say_head(&mut self, peer: Peer, stream: u32, fields: Fields<'_>, end: bool) {
        self.say(peer, &Frame::headers(stream, end, fields));
    }

    pub(crate) fn say_data(&mut self, peer: Peer, stream: u32, data: &[u8], end: bool) {
        let mut pieces = data.chunks(16_384).peekable();
        while let Some(piece) = pieces.next() {
            self.say(peer, &Frame::data(stream, end && pieces.peek().is_none(), piece));
        }
    }

    // ---- What a peer must see ----

    /// A head with these fields next.
    #[track_caller]
    pub(crate) fn sees_head(&mut self, peer: Peer, stream: u32, expected: Fields<'_>, end: bool) {
        let frame = self.frame(peer);
        assert!(frame.is("HEADERS"), "{frame} instead of a head");
        let streams = self.streams(peer);
        let fields = streams.decoder.decode(&frame.payload).expect("a header block");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields: Vec<_> = fields.iter().map(|(name, value)| (text(name), text(value))).collect();
        let found: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let _ = write!(streams.log, "head on {stream}: {found:?}, end {end}; ");
        assert_eq!((frame.stream, &found[..], frame.has(END_STREAM)), (stream, expected, end));
    }

    /// A body, or a part of one, next, however it is cut.
    #[track_caller]
    pub(crate) fn sees_data(&mut self, peer: Peer, stream: u32, expected: &[u8], end: bool) {
        let (mut got, mut ended) = (Vec::new(), false);
        while got.len() < expected.len() || end && !ended {
            let frame = self.frame(peer);
            assert!(frame.is("DATA") && frame.stream == stream, "{frame} instead of data");
            got.extend_from_slice(&frame.payload);
            ended = frame.has(END_STREAM);
        }
        assert!(got == expected && ended == end, "{} bytes, ended: {ended}", got.len());
        let _ = write!(self.streams(peer).log, "{} bytes on {stream}, end {end}; ", got.len());
    }

    #[track_caller]
    pub(crate) fn sees_reset(&mut self, peer: Peer, stream: u32, code: u32) {
        let frame = self.frame(peer);
        assert_eq!(frame, Frame::reset(stream, code));
        let _ = write!(self.streams(peer).log, "{frame}; ");
    }

    /// A GOAWAY that counts the streams up to `last`.
    #[track_caller]
    pub(crate) fn sees_goaway(&mut self, peer: Peer, last: u32) {
        let frame = self.frame(peer);
        assert!(frame.is("GOAWAY") && frame.first_word() == last, "{frame}");
        let _ = write!(self.streams(peer).log, "{frame}; ");
    }

    fn streams(&mut self, peer: Peer) -> &mut Streams {
        self.seen[peer.0].streams.as_mut().expect("a peer of HTTP/2")
    }

    /// The next frame that a scenario is about.
    #[track_caller]
    fn frame(&mut self, peer: Peer) -> Frame {
        loop {
            let bytes = self.take(peer, |bytes| {
                let length = bytes.first_chunk::<3>()?;
                let n = 9 + u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
                (bytes.len() >= n).then_some(n)
            });
            let frame = Frame::take(&mut &bytes[..]).expect("a whole frame");
            let ack = frame.has(ACK);
            if is_pace(&frame) {
                continue;
            }
            if frame.is("SETTINGS") && !ack {
                self.say(peer, &Frame::settings_ack());
            } else if frame.is("PING") && !ack {
                self.say(peer, &Frame::new(6, ACK, 0, frame.payload));
            } else {
                return frame;
            }
        }
    }

    /// An acknowledgement or credit may still come before an end.
    pub(super) fn skip_pace(&mut self, peer: Peer) {
        let seen = &mut self.seen[peer.0];
        let mut rest = &seen.bytes[seen.looked..];
        while seen.streams.is_some() && Frame::take(&mut rest).is_some_and(|frame| is_pace(&frame))
        {
            seen.looked = seen.bytes.len() - rest.len();
        }
    }
}

/// Is it one that needs no answer, and that only the pace of things decides?
fn is_pace(frame: &Frame) -> bool {
    let answers = frame.has(ACK) && (frame.is("SETTINGS") || frame.is("PING"));
    answers || frame.is("WINDOW_UPDATE")
}
