//! Routes and requests, against a model.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::route_match(data));

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    selvedge_fuzz::replay(selvedge_fuzz::route_match)
}
