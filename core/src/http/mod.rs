//! What HTTP/1 and HTTP/2 share: heads, fields, methods, authorities and the hop-by-hop rules.
//!
//! Nothing here owns bytes. A head is parsed where it was received and encoded into the output of
//! the other side in the same call, so everything borrows from the receive buffer.

mod answer;
pub mod authority;
pub(crate) mod date;
pub(crate) mod facts;
mod field;
pub(crate) mod grammar;
pub(crate) mod grpc;
mod head;
pub mod hop;
mod message;
pub mod method;
pub mod status;
#[cfg(test)]
mod tests;
pub(crate) mod websocket;

pub use answer::Answer;
pub(crate) use field::Fate;
pub use field::{Field, Fields, Iter, Known, Scratch, Span};
pub use head::{RequestHead, ResponseHead, Version};
pub use message::{Framing, Request, Response, TargetForm};
