//! An authority that serves on this machine.

pub(crate) mod server;
