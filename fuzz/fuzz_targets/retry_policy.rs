//! The budget of retries, against one that remembers everything.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::retry_policy(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    selvedge_fuzz::replay(selvedge_fuzz::retry_policy)
}
