//! Runs a [`selvedge_core::engine::Engine`] on tokio.
//!
//! The adapter does what the engine wants and tells it what happened; it decides nothing about
//! traffic. [`bind`] opens the listeners, [`Bound::serve`] runs workers on threads of their own,
//! and [`Bound::embed`] gives a future to run in a runtime that is there already.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use selvedge_core::config::{Config, Listener, ListenerKind};
//! use selvedge_tokio::{Options, bind};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::default();
//! config.listeners.push(Listener {
//!     addr: "127.0.0.1:4140".parse()?,
//!     kind: ListenerKind::Outbound,
//! });
//! let bound = bind(&config, &Options::default())?;
//! let mut workers = bound.serve(&Arc::new(config), |event| println!("{event:?}"))?;
//! // … until somebody asks for the end:
//! for worker in workers.handles() {
//!     worker.drain();
//! }
//! workers.ended().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Shape
//!
//! One task per worker, the driver, owns the engine and all sockets. The waker of each socket puts
//! its index on a ready list and wakes the driver, which visits the listed sockets: reads once into
//! a buffer that all share, hands that to the engine, and writes at once what the engine wants
//! written, so that bytes pass from one socket to the other without a task switch. No task and no
//! buffer belongs to a connection. One clock reading serves a turn, and one timer the worker.
//!
//! Between two looks at the reactor the driver reads a bounded number of blocks, and no socket gets
//! a second read before every other ready one had its first.
#![forbid(unsafe_code)]

mod accept;
mod bind;
mod driver;
mod inbox;
mod os;
mod resolve;
mod socket;
mod worker;

pub use bind::{BindError, Bound, Options, bind};
pub use os::raise_descriptor_limit;
pub use worker::{Worker, Workers};
