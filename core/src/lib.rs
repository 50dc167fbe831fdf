//! The sans-IO core of the Selvedge sidecar proxy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod config;
pub mod engine;
pub mod error;
pub mod limits;
pub mod rng;
pub mod stats;
pub mod time;
