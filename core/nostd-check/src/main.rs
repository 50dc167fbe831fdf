//! The core in a program that has no std: its own panic handler, its own allocator, and only the
//! `main` and `memcpy` of the C library.
//!
//! `tests/nostd.rs` of the core builds and runs it, then builds it with the feature `with-std`:
//! there std brings a second panic handler, and the compiler refuses. So the first build shows
//! that nothing below the core needs std, and the second that this check can fail.
#![no_std]
#![no_main]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use selvedge_core::rng::{Rng, Seed};

#[link(name = "c")]
unsafe extern "C" {
    fn abort() -> !;
}

/// What the C library's start-up calls. 0: the core does what it should.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    c_int::from(Rng::fork(Seed::from_number(1), 1).below(1) != 0)
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: `abort` has no preconditions.
    unsafe { abort() }
}

/// The `alloc` that comes with the compiler was built to unwind, and names this. Nothing unwinds
/// here (`panic = "abort"`), so nothing calls it.
#[unsafe(no_mangle)]
pub extern "C" fn rust_eh_personality() {}

#[global_allocator]
static BUMP: Bump = Bump {
    arena: UnsafeCell::new([0; ARENA]),
    used: AtomicUsize::new(0),
};

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
            let Some(end) = start.checked_add(layout.size()).filter(|&end| end <= ARENA) else { return core::ptr::null_mut() };
            match self
                .used
                .compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed)
            {
                // SAFETY: `start` is within the arena.
                Ok(_) => return unsafe { base.add(start) },
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, _block: *mut u8, _layout: Layout) {}
}
