//! What every adapter must do.

mod adapter;
#[path = "../driver/tests/adapter/mod.rs"]
mod tests;
