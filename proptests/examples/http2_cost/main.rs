//! Unary gRPC calls through our HTTP/2 and through the `h2` crate, 32 at a time, 100 bytes each way,
//! a client's and a server's connection over memory: what a call costs.
//!
//! `cargo run --release -p selvedge-proptests --example http2_cost`: allocations, and their bytes.
//!
//! `valgrind --tool=callgrind target/release/examples/http2_cost {ours|h2} COUNT`: the difference
//! between two counts is the cost of a call in instructions.

#[path = "../../../core/examples/http2_cost.rs"]
mod ours;
mod theirs;

use std::alloc::{GlobalAlloc, Layout, System};
use std::env;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The system's, with two counters.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn note(bytes: usize) {
    CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a call of 3,200 costs, without start-up.
fn measure(name: &str, run: fn(usize) -> usize) {
    const FEW: usize = 3200;
    let count = |calls| {
        let before = (CALLS.load(Relaxed), BYTES.load(Relaxed));
        run(calls);
        (CALLS.load(Relaxed) - before.0, BYTES.load(Relaxed) - before.1)
    };
    let ((few, few_bytes), (many, many_bytes)) = (count(FEW), count(3 * FEW));
    let each = |few, many| (many - few) as f64 / (2 * FEW) as f64;
    let (calls, bytes) = (each(few, many), each(few_bytes, many_bytes));
    println!("{name:>5}: {calls:6.2} allocations and {bytes:8.0} bytes of memory a call");
}

fn main() {
    let mut arguments = env::args().skip(1);
    let count = |argument: Option<String>| {
        argument.map_or(10, |count| count.parse().expect("a number of calls"))
    };
    match arguments.next().as_deref() {
        Some("ours") => drop(ours::run(count(arguments.next()))),
        Some("h2") => drop(theirs::run(count(arguments.next()))),
        _ => {
            measure("ours", ours::run);
            measure("h2", theirs::run);
        }
    }
}
