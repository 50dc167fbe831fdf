//! Property tests.

pub mod choose;
pub mod codec;
pub mod differential;
pub mod experiment;
pub mod h2;
pub mod harness;
pub mod hello;
pub mod hpack;
pub mod route;
pub mod script;
pub mod sim;
pub mod streams;
pub mod table;
pub mod traffic;
pub mod translate;
pub mod transport_header;
