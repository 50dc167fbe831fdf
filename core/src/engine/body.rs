//! Carries a body from the connection that it arrives on to the one that it leaves on.

use bytes::BytesMut;

use super::mirror::Copied;
use crate::buf::OutQueue;
use crate::error::Reason;
use crate::http1::{self, Body, BodyDecoder};
use crate::limits::Limits;

/// How a body leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    /// As it is: its length, or the end of the connection, ends it.
    Plain,
    /// In chunks of ours.
    Chunked,
    /// In frames of HTTP/2, which its connection makes.
    Frames,
}

impl Outgoing {
    /// Moves `n` bytes of a body; none are no chunk.
    pub(super) fn put(self, from: &mut BytesMut, n: usize, tx: &mut OutQueue) {
        if n == 0 {
            return;
        }
        if canary!(FlippedByte) && n > 100 {
            from[n - 1] ^= 1;
        }
        if self == Outgoing::Chunked {
            tx.append(|out| http1::encode_chunk_start(out, n));
            tx.take(from, n);
            tx.append(http1::encode_chunk_end);
        } else {
            tx.take(from, n);
        }
    }
}

/// What [`carry`] did.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// Bytes were queued, also when it ended badly.
    pub(super) moved: bool,
    /// The body is complete.
    pub(super) done: bool,
    /// What was received is not enough to go on.
    pub(super) starved: bool,
    /// Trailer fields that may not go on.
    pub(super) dropped: usize,
    /// gRPC's status, of the trailers.
    pub(super) grpc_status: Option<u16>,
    /// The trailers, if it leaves in frames.
    pub(super) trailers: Option<BytesMut>,
    /// What is wrong with it.
    pub(super) error: Option<Reason>,
}

/// Where a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyStep {
    /// It is complete.
    Done,
    /// More has to be received; if nothing more can come, it is cut short.
    Starved,
    /// Something else has to happen first.
    Blocked,
}

impl BodyStep {
    pub(super) fn of(done: bool, starved: bool) -> Self {
        match (done, starved) {
            (true, _) => BodyStep::Done,
            (false, true) => BodyStep::Starved,
            (false, false) => BodyStep::Blocked,
        }
    }
}

/// Moves what `rx` holds of a body to `tx`, while less than `room` bytes wait there. `copied` gets
/// the same.
pub(super) fn carry(
    decoder: &mut BodyDecoder,
    rx: &mut BytesMut,
    tx: &mut OutQueue,
    outgoing: Outgoing,
    room: usize,
    limits: &Limits,
    mut copied: Option<&mut Copied>,
) -> Carried {
    let mut carried = Carried::default();
    let room = if canary!(UnboundedBuffer) { usize::MAX } else { room };
    while tx.unsent() < room && !carried.done {
        match decoder.decode(rx, limits) {
            Ok(Body::NeedMore) => {
                carried.starved = true;
                break;
            }
            Ok(Body::Data(n)) => {
                outgoing.put(rx, n, tx);
                if let Some(copied) = &mut copied {
                    copied.last_of(tx, n, outgoing);
                }
                carried.moved = true;
                carried.done = decoder.is_done();
            }
            Ok(Body::Trailers(n)) => {
                let trailers = rx.split_to(n);
                carried.grpc_status = http1::trailer_grpc_status(&trailers);
                if let Some(copied) = &mut copied {
                    copied.trailers = Some(trailers[..].into());
                }
                let encoded = match outgoing {
                    Outgoing::Frames => {
                        carried.trailers = Some(trailers);
                        Ok(0)
                    }
                    Outgoing::Chunked => {
                        carried.moved = true;
                        tx.append(|out| http1::encode_last_chunk(out, &trailers))
                    }
                    // There is no place for them, but they have to be well-formed all the same.
                    Outgoing::Plain => http1::encode_last_chunk(&mut BytesMut::new(), &trailers),
                };
                match encoded {
                    Ok(dropped) => carried.dropped = dropped,
                    Err(reason) => carried.error = Some(reason),
                }
                carried.done = true;
            }
            Ok(Body::End) => carried.done = true,
            Err(reason) => {
                carried.error = Some(reason);
                break;
            }
        }
    }
    carried
}
