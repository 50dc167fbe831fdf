//! The adapter under test.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

pub(crate) use selvedge_smol::*;

/// Runs a future for as long as a test is patient.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut patience = async_io::Timer::after(Duration::from_mins(2));
    async_io::block_on(poll_fn(|cx| {
        let result = future.as_mut().poll(cx);
        if result.is_pending() {
            assert_eq!(Pin::new(&mut patience).poll(cx).map(drop), Poll::Pending, "it hangs");
        }
        result
    }))
}
