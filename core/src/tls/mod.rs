//! TLS at the edge of the engine.
//!
//! What a connection wants is told from its ClientHello alone ([`client_hello`]), which is read in
//! place: a hello that is somebody else's is passed on with every byte that it came with.

pub mod client_hello;

pub use client_hello::{ClientHello, HelloScanner, Malformed};
