//! Property tests.

pub mod differential;
pub mod experiment;
pub mod h2;
pub mod harness;
pub mod script;
pub mod table;
