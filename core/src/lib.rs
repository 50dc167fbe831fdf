//! The sans-IO core of the Selvedge sidecar proxy: protocol detection, HTTP/1, opaque TCP, routing,
//! balancing, pooling and timeouts as one state machine. It opens no socket, reads no clock, starts
//! no task and draws no random number that it was not given; it builds without `std` and holds no
//! `unsafe`.
//!
//! Whoever embeds it brings the I/O: an adapter. The whole list of what one does: listen and accept,
//! connect, read, write, shut down, reset, one timer, the time, name resolution, entropy once.
//!
//! # The run loop
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use selvedge_core::config::Config;
//! use selvedge_core::engine::{Engine, Input, Output};
//! use selvedge_core::rng::Seed;
//! use selvedge_core::time::Time;
//! # struct Sockets;
//! # impl Sockets {
//! #     fn wait(&mut self, _: Option<Duration>) -> Vec<Input> { vec![Input::Timeout] }
//! #     fn connect(&mut self, _: selvedge_core::engine::ConnId, _: std::net::SocketAddr) {}
//! #     fn write(&mut self, _: selvedge_core::engine::ConnId, _: &[&[u8]]) -> usize { 0 }
//! #     fn wait_writable(&mut self, _: selvedge_core::engine::ConnId) {}
//! #     fn wait_readable(&mut self, _: selvedge_core::engine::ConnId) {}
//! #     fn close(&mut self, _: selvedge_core::engine::ConnId, _: selvedge_core::engine::CloseKind) {}
//! #     fn resolve(&mut self, _: selvedge_core::engine::QueryId, _: &str) {}
//! # }
//! # let mut sockets = Sockets;
//! # let mut turns = 3;
//!
//! let origin = Instant::now();
//! let now = || Time::ZERO + origin.elapsed();
//! // 128 bits from the operating system; a simulation takes `Seed::from_number`.
//! let seed = Seed([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344]);
//! let mut engine = Engine::new(Arc::new(Config::default()), seed, now());
//!
//! loop {
//!     // 1. Wait for what the sockets have, or for the engine's earliest deadline. A connection may
//!     //    be read while `engine.read_budget(conn)` is not 0. New ones go through `engine.accept`.
//!     let deadline = engine.next_timeout().map(|(at, _why)| at.saturating_since(now()));
//!     for input in sockets.wait(deadline) {
//!         // 2. Say what happened. Nothing is done yet …
//!         engine.handle_input(now(), input);
//!     }
//!     // 3. … until the turn ends.
//!     engine.end_turn(now());
//!     // 4. Do what the engine wants, in this order.
//!     while let Some(output) = engine.poll_output() {
//!         match output {
//!             // Answered later with `Input::Connected`.
//!             Output::Connect { conn, addr } => sockets.connect(conn, addr),
//!             Output::Flush(conn) => {
//!                 let mut io = [&[][..]; 16];
//!                 let n = engine.write_bufs(conn, &mut io);
//!                 let written = sockets.write(conn, &io[..n]);
//!                 engine.handle_input(now(), Input::Wrote { conn, n: written });
//!                 // Whatever is left is written when the socket takes bytes again.
//!                 sockets.wait_writable(conn);
//!             }
//!             Output::ReadReady(conn) => sockets.wait_readable(conn),
//!             Output::Close { conn, how } => sockets.close(conn, how),
//!             // Answered later with `Input::Resolved`.
//!             Output::Resolve { query, name } => sockets.resolve(query, &name),
//!             // Answered later with `Input::Identity`.
//!             Output::Certify => {}
//!             Output::Event(event) => println!("{event:?}"),
//!         }
//!     }
//! #   turns -= 1;
//! #   if turns == 0 { break; }
//! }
//! ```
//!
//! The example `pipes` drives the same loop over two pipes in memory:
//! `cargo run -p selvedge-core --example pipes`.
//!
//! # The contract
//!
//! - Inputs, [`Engine::end_turn`](engine::Engine::end_turn) and drains may come in any order and any
//!   number; nothing breaks. Work is done in `end_turn`, in proportion to what came in.
//! - Every connection that was accepted or connected ends by exactly one
//!   [`Close`](engine::Output::Close) `Full` or `Abort`, whoever ended it. Inputs for a connection
//!   that is gone are ignored.
//! - What an adapter need not ask, it may ignore: [`reads_bulk`](engine::Engine::reads_bulk) and
//!   [`splices_to`](engine::Engine::splices_to) only say what would be cheaper.
//! - Same seed, same inputs, same outputs, on every machine.
//! - What a peer does wrong is never an `Err` and never a panic: it is an answer, a close, a counter
//!   and an [`Event`](engine::Event).
//!
//! # Where things are
//!
//! A module knows only those above it.
//!
//! | | |
//! |---|---|
//! | [`error`], [`limits`], [`stats`], [`config`], [`time`], [`rng`] | the vocabulary |
//! | [`tls`], [`identity`] | sessions at the edge; who is who, and when a certificate is asked for |
//! | [`sniff`] | what the first bytes of a connection are |
//! | [`tls`] | whom a TLS client wants to talk to |
//! | [`http`] | what HTTP/1 and HTTP/2 share |
//! | [`http1`] | heads, bodies and their encoding |
//! | [`hpack`], [`http2`] | header compression; frames, streams and windows |
//! | [`policy`] | routes, filters and splits |
//! | [`balance`] | which endpoint a request goes to |
//! | [`engine`] | everything together |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

/// Is this planted bug at work? Never, but under a cfg that no normal build sets: see `canary`.
macro_rules! canary {
    ($name:ident) => {{
        #[cfg(selvedge_canary)]
        {
            crate::canary::is_planted(crate::canary::Canary::$name)
        }
        #[cfg(not(selvedge_canary))]
        {
            false
        }
    }};
}

pub mod balance;
pub mod buf;
#[cfg(selvedge_canary)]
pub mod canary;
pub mod config;
pub mod engine;
pub mod error;
pub mod hpack;
pub mod http;
pub mod http1;
pub mod http2;
pub mod identity;
pub mod limits;
pub mod policy;
pub mod rng;
pub mod sniff;
pub mod stats;
pub mod time;
pub mod tls;
