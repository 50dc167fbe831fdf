//! The binary has no planted bugs (see `canary` in the core).

use std::fs;

#[test]
fn the_binary_has_no_planted_bugs() {
    let binary = fs::read(env!("CARGO_BIN_EXE_selvedge")).expect("the binary");
    // That such a binary would hold this is shown where the planted bugs are built.
    assert!(!binary.windows(16).any(|bytes| bytes == b"selvedge-canary:"));
    // It is the binary, and these are its strings.
    assert!(binary.windows(15).any(|bytes| bytes == b"l5d-proxy-error"));
}
