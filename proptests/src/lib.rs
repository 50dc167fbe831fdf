//! Property tests.

pub mod harness;
pub mod script;
pub mod table;
