//! The transport header between proxies.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::transport_header(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    selvedge_fuzz::replay(selvedge_fuzz::transport_header)
}
