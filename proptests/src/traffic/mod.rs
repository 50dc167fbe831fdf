//! What is sent: honest messages and damaged ones, contents that tell where they belong, and a
//! reader of what arrives.

pub mod arrival;
pub mod content;
pub mod request;
pub mod response;
pub mod wire;
