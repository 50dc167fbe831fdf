//! The simulator finds bugs: each planted one, within the default seeds of the worlds that it is about,
//! by the invariant meant for it alone, and not without it; every invariant is tripped by at least one of
//! them.

use std::path::Path;
use std::process::Command;

/// Builds the simulator with the planted bugs, in a target directory of its own, and lets it look
/// for them. Its table is this test's output.
#[test]
fn every_planted_bug_is_caught() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), Into::into);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["run", "--locked", "--quiet", "--profile", "sim"])
        .args(["-p", "selvedge-proptests", "--bin", "canaries"])
        .current_dir(&root)
        .env("CARGO_TARGET_DIR", target.join("canary"))
        // Whatever flags there are: only these make the planted bugs exist.
        .env("RUSTFLAGS", "--cfg selvedge_canary")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = cargo.output().expect("cargo runs");
    let table = String::from_utf8_lossy(&output.stdout);
    println!("{table}");
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    let caught = table.lines().count();
    assert!(caught > 12, "only {caught} lines");
    // The marker is in a binary that has planted bugs, so that looking for it means something.
    let planted = target.join("canary/sim/canaries");
    assert!(holds_marker(&std::fs::read(planted).expect("the binary")), "the marker is gone");
    // This one was built without.
    let normal = std::fs::read(env!("CARGO_BIN_EXE_sim")).expect("the binary");
    assert!(!holds_marker(&normal), "a normal build has planted bugs");
}

/// What stands before the name of every planted bug in a binary that has them.
fn holds_marker(binary: &[u8]) -> bool {
    binary.windows(16).any(|bytes| bytes == b"selvedge-canary:")
}
