//! What every adapter must do, where the test has to be alone in its process.

mod adapter;
#[path = "../../runtime-tokio/driver/tests/adapter/common.rs"]
mod common;
#[path = "../../runtime-tokio/driver/tests/adapter/descriptors.rs"]
mod tests;
