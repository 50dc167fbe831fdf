//! The ClientHello of a TLS client, beside rustls.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::client_hello(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    selvedge_fuzz::replay(selvedge_fuzz::client_hello)
}
