//! One stream: its state (RFC 9113 §5.1), its windows, what waits to be sent on it.

use alloc::boxed::Box;

use super::error::Violation;
use crate::buf::OutQueue;
use crate::time::Time;

/// Names a stream of a connection. Ids are never used twice, so the name of a stream that is over
/// finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    pub(crate) slot: u32,
    /// Its identifier on the wire.
    pub id: u32,
}

/// How far one direction of a stream is. *Idle* streams are not stored, and neither are *closed*
/// ones; *half-closed* is one direction that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// A head comes next (1xx before it, for a response).
    Head,
    /// Then DATA and, at the end, trailers.
    Body,
    /// END_STREAM.
    Done,
}

/// What can happen in one direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The head of an informational response.
    Interim,
    /// The head of a request or of a final response.
    Head,
    /// Body bytes, maybe none.
    Data,
    /// Fields after the body.
    Trailers,
}

impl Half {
    /// The table of RFC 9113 §8.1, for one direction: what follows `part`, with END_STREAM or not.
    ///
    /// | in | interim | head | data | trailers |
    /// |---|---|---|---|---|
    /// | Head | Head; with END_STREAM an error | Body or Done | error | error |
    /// | Body | error | error | Body or Done | Done; without END_STREAM an error |
    /// | Done | error | error | error | error |
    pub(crate) fn after(self, part: Part, end: bool) -> Result<Half, Violation> {
        let next = if end { Half::Done } else { Half::Body };
        match (self, part) {
            (Half::Head, Part::Interim) if !end => Ok(Half::Head),
            (Half::Head, Part::Head) | (Half::Body, Part::Data) => Ok(next),
            (Half::Body, Part::Trailers) if end => Ok(Half::Done),
            (Half::Done, _) => Err(Violation::StreamClosed),
            _ => Err(Violation::Sequence),
        }
    }
}

/// An open or half-closed stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// Whatever the owner of the connection wants to find again.
    pub(crate) token: u64,
    pub(crate) recv: Half,
    pub(crate) send: Half,
    pub(crate) flags: Flags,
    /// What the peer may still send.
    pub(crate) recv_window: i32,
    /// What we may still send; negative after the peer made its windows smaller.
    pub(crate) send_window: i32,
    /// Received, and held by us or whoever it was handed to.
    pub(crate) held: u32,
    /// Taken, and not yet given back to the peer as credit.
    pub(crate) credit: u32,
    /// What the peer's window is when nothing is under way: it grows with use.
    pub(crate) window: u32,
    /// What Content-Length still promises; `None`: no promise.
    pub(crate) promised: Option<u64>,
    /// When it was opened.
    pub(crate) opened: Time,
    /// Body bytes that wait for credit or for their turn.
    pub(crate) queue: OutQueue,
    /// Trailers that wait for the end of `queue`, in HTTP/1 form.
    pub(crate) trailers: Option<Box<[u8]>>,
}

/// Small facts about a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags {
    /// Nothing will be added to `queue`: END_STREAM goes with its last byte.
    pub(crate) ending: bool,
    /// On the list of streams that can send.
    pub(crate) sendable: bool,
    /// On the list of streams whose queue got shorter.
    pub(crate) progressed: bool,
    /// On the list of streams whose queue may pin read buffers.
    pub(crate) unsettled: bool,
    /// What still comes is not wanted.
    pub(crate) abandoned: bool,
    /// The request is HEAD: its response has no DATA, whatever Content-Length says.
    pub(crate) is_head: bool,
    /// CONNECT: what follows the heads are the bytes of a tunnel.
    pub(crate) is_connect: bool,
    /// What is kept of its body may be wanted back when it is over.
    pub(crate) returns: bool,
}

impl Stream {
    pub(crate) fn is_over(&self) -> bool {
        self.recv == Half::Done && self.send == Half::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state × part × END_STREAM, with its clause.
    #[test]
    fn the_table_of_states() {
        use Half::{Body, Done, Head};
        use Violation::{Sequence, StreamClosed};
        for (state, part, end, expected) in [
            // §8.1: a response is any number of 1xx heads, none of which ends the stream, …
            (Head, Part::Interim, false, Ok(Head)),
            (Head, Part::Interim, true, Err(Sequence)),
            // … one head, …
            (Head, Part::Head, false, Ok(Body)),
            (Head, Part::Head, true, Ok(Done)),
            (Head, Part::Data, false, Err(Sequence)),
            (Head, Part::Data, true, Err(Sequence)),
            (Head, Part::Trailers, false, Err(Sequence)),
            (Head, Part::Trailers, true, Err(Sequence)),
            // … DATA, and at most one section of trailers, which ends the stream.
            (Body, Part::Interim, false, Err(Sequence)),
            (Body, Part::Interim, true, Err(Sequence)),
            (Body, Part::Head, false, Err(Sequence)),
            (Body, Part::Head, true, Err(Sequence)),
            (Body, Part::Data, false, Ok(Body)),
            (Body, Part::Data, true, Ok(Done)),
            (Body, Part::Trailers, false, Err(Sequence)),
            (Body, Part::Trailers, true, Ok(Done)),
            // §5.1, half-closed (remote): nothing but WINDOW_UPDATE, PRIORITY and RST_STREAM.
            (Done, Part::Interim, false, Err(StreamClosed)),
            (Done, Part::Interim, true, Err(StreamClosed)),
            (Done, Part::Head, false, Err(StreamClosed)),
            (Done, Part::Head, true, Err(StreamClosed)),
            (Done, Part::Data, false, Err(StreamClosed)),
            (Done, Part::Data, true, Err(StreamClosed)),
            (Done, Part::Trailers, false, Err(StreamClosed)),
            (Done, Part::Trailers, true, Err(StreamClosed)),
        ] {
            assert_eq!(state.after(part, end), expected, "{state:?} {part:?} {end}");
        }
    }

    #[test]
    fn sizes() {
        assert!(size_of::<Stream>() <= 240, "{}", size_of::<Stream>());
    }
}
