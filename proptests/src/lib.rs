//! Property tests.

pub mod table;
