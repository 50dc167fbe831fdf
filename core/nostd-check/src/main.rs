//! The core in a program that has no std: its own panic handler, its own allocator, and only the
//! `main` and `memcpy` of the C library.
//!
//! `tests/nostd.rs` of the core builds and runs it, then builds it with the feature `with-std`:
//! there std brings a second panic handler, and the compiler refuses. So the first build shows
//! that nothing below the core needs std, and the second that this check can fail.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::sync::Arc;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, Engine, Input, Output};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

/// What the C library's start-up calls.
///
/// 0: the engine answered a request for an unknown authority as it should. 1: it did not accept the
/// connection. 2: it did not answer. 3: it answered something else.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    let addr = ([127, 0, 0, 1], 4140).into();
    let config = Config {
        listeners: alloc::vec![Listener { addr, kind: ListenerKind::Outbound }],
        ..Config::default()
    };
    let mut engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
    let accepted = Accepted { listener: 0, peer: addr, local: addr, original_dst: None };
    let Some(conn) = engine.accept(Time::ZERO, accepted) else { return 1 };
    let data = BytesMut::from(&b"GET / HTTP/1.1\r\nHost: nowhere.example\r\n\r\n"[..]);
    engine.handle_input(Time::ZERO, Input::Received { conn, data });
    engine.end_turn(Time::ZERO);
    while let Some(output) = engine.poll_output() {
        if output == Output::Flush(conn) {
            let mut io = [&[][..]; 1];
            engine.write_bufs(conn, &mut io);
            return if io[0].starts_with(b"HTTP/1.1 404 ") { 0 } else { 3 };
        }
    }
    2
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `abort` has no preconditions.
    unsafe { abort() }
}

/// The `alloc` that comes with the compiler was built to unwind, and names this and the next.
/// Nothing unwinds here (`panic = "abort"`), so nothing calls them.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

/// See [`rust_eh_personality`].
#[unsafe(no_mangle)]
pub extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: `abort` has no preconditions.
    unsafe { abort() }
}

#[global_allocator]
static BUMP: Bump = Bump { arena: UnsafeCell::new([0; ARENA]), used: AtomicUsize::new(0) };

const ARENA: usize = 4 << 20;

/// Hands out one static array from front to back and takes nothing back.
struct Bump {
    arena: UnsafeCell<[u8; ARENA]>,
    used: AtomicUsize,
}

// SAFETY: `used` hands every byte of the arena out once.
unsafe impl Sync for Bump {}

// SAFETY: blocks do not overlap, lie within the arena and are aligned as asked for.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.arena.get().cast::<u8>();
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let start = (base as usize + used).next_multiple_of(layout.align()) - base as usize;
            let Some(end) = start.checked_add(layout.size()).filter(|&end| end <= ARENA) else {
                return core::ptr::null_mut();
            };
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `start` is within the arena.
                Ok(_) => return unsafe { base.add(start) },
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}
