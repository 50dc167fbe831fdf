//! The worker that an adapter runs, for any runtime: it owns a
//! [`selvedge_core::engine::Engine`] and every socket, does what the engine wants and tells it what
//! happened. It decides nothing about traffic.
//!
//! An adapter is a [`Runtime`]: it says how its sockets are read and written and who wakes them,
//! what its timer is, and what runs a future on a thread. `selvedge-tokio` and `selvedge-smol` are
//! this and no more. What needs no runtime at all is in [`os`].
//!
//! # Shape
//!
//! One future per worker, the driver, owns the engine and all sockets. The waker of each socket puts
//! its index on a ready list and wakes the driver, which visits the listed sockets: reads each once
//! into a buffer that all share and hands that to the engine; when all were read, or a block is
//! full, the engine ends its turn and what it wants written is written, so that bytes pass from one
//! socket to the other without a task switch, and what many send to one in a single write. No task
//! and no buffer belongs to a connection. One clock reading serves a turn, and one timer the worker.
//!
//! What flows through a tunnel in the clear is not read at all where the kernel can do without: it goes
//! through a pipe, by `splice`, from one socket to the other. There are few pipes, and what is idle has
//! none.
//!
//! Between two looks at the reactor the driver visits a bounded number of sockets and reads a bounded
//! number of bytes, and no socket gets a second read before every other ready one had its first. Those
//! that move much, and those that are new, are visited after those that do not.
#![forbid(unsafe_code)]

mod accept;
mod background;
mod bind;
mod block;
mod clock;
mod driver;
mod inbox;
pub mod os;
mod pipe;
mod resolve;
mod runtime;
mod socket;
mod timer;
mod urgent;
mod worker;

pub use background::Background;
pub use bind::{BindError, Bound, Options};
pub use block::Block;
pub use runtime::{Read, Runtime, Stream};
pub use worker::{Events, Worker, Workers};
