//! Header blocks as they come in.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::hpack_decode(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    selvedge_fuzz::replay(selvedge_fuzz::hpack_decode)
}
