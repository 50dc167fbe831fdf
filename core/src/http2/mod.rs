//! HTTP/2 (RFC 9113), both sides, without I/O.
//!
//! A [`Connection`] takes what arrived and says what it means, one [`Event`] at a time; what it has
//! to say goes to an [`OutQueue`](crate::buf::OutQueue). Header blocks are read into the form that
//! the same message has in HTTP/1, so that [`Request`](crate::http::Request) and
//! [`Response`](crate::http::Response) are the same for both versions and translation is no step of
//! its own. Body bytes are slices of what arrived; they wait in their stream until its window, the
//! connection's and its turn let them go.

pub(crate) mod budget;
mod connection;
mod encode;
mod error;
pub mod frame;
mod grammar;
mod message;
mod past;
mod settings;
mod stream;
mod streams;

pub(crate) use connection::Body;
pub use connection::{Config, Connection, Event, Role, Trailers};
pub use error::{ErrorCode, Violation};
pub use message::Scratch;
pub use settings::{DEFAULT_WINDOW, MAX_WINDOW, Settings};
pub use stream::StreamKey;
