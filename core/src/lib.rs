//! The sans-IO core of the Selvedge sidecar proxy.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod balance;
mod buf;
pub mod config;
pub mod engine;
pub mod error;
pub mod http;
pub mod http1;
pub mod limits;
pub mod rng;
pub mod sniff;
pub mod stats;
pub mod time;
