//! Property tests.

pub mod harness;
pub mod table;
