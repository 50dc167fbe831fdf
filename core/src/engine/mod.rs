//! The engine.
mod contract;
pub use contract::*;
