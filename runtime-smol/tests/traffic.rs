//! What every adapter must do.

mod adapter;
#[path = "../../runtime-tokio/driver/tests/adapter/mod.rs"]
mod tests;
