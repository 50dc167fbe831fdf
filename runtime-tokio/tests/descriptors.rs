//! What every adapter must do, where the test has to be alone in its process.

mod adapter;
#[path = "../driver/tests/adapter/common.rs"]
mod common;
#[path = "../driver/tests/adapter/descriptors.rs"]
mod tests;
