//! The adapter under test.

pub(crate) use selvedge_tokio::*;

/// Runs a future, which may need the runtime, for as long as a test is patient.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_mins(2), future).await.unwrap()
    })
}
