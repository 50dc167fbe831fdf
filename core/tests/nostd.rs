//! The core needs no std: a program with its own panic handler and allocator links it and runs it,
//! and the same program with std pulled in is refused, which shows that the check can fail.

use std::path::Path;
use std::process::{Command, Output};

/// The program's folder.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nostd-check");

#[test]
fn links_and_runs_without_std() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nostd");
    let built = build(&target, &[]);
    assert!(built.status.success(), "{}", stderr(&built));
    let ran = Command::new(target.join("debug/nostd-check")).status();
    let code = ran.expect("the program was just built").code();
    assert_eq!(code, Some(0), "main.rs says what each exit code means");
}

#[test]
fn is_refused_with_std() {
    // A folder of its own: cargo would make the two tests wait for each other.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nostd-with-std");
    let built = build(&target, &["--features", "with-std"]);
    let stderr = stderr(&built);
    assert!(!built.status.success(), "std came in unnoticed");
    assert!(stderr.contains("error[E0152]: found duplicate lang item `panic_impl`"), "{stderr}");
}

/// The program's lock file names the versions that the workspace builds: so its crates are there
/// when the workspace's are, and what is checked is what is shipped.
#[test]
fn locks_what_the_workspace_locks() {
    let read = |path: &str| std::fs::read_to_string(path).expect("both lock files are committed");
    let ours = read(concat!(env!("CARGO_MANIFEST_DIR"), "/nostd-check/Cargo.lock"));
    let workspace = read(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock"));
    let packages = |lock: &str| -> Vec<String> {
        let blocks = lock.split("[[package]]\n").skip(1);
        // Name, version, source and checksum; dependencies are spelled by what else there is.
        let heads = blocks.filter_map(|block| block.trim().split("\ndependencies").next());
        heads.map(str::to_owned).collect()
    };
    let locked = packages(&workspace);
    for package in packages(&ours) {
        assert!(
            package.starts_with("name = \"nostd-check\"") || locked.contains(&package),
            "not in the workspace's Cargo.lock:\n{package}\n\
             run `cargo update --manifest-path core/nostd-check/Cargo.toml -p NAME --precise VERSION`"
        );
    }
}

/// Builds the program, off line: what it needs was fetched for the workspace.
fn build(target: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO"))
        .args(["build", "--locked", "--offline", "--color", "never"])
        .arg("--target-dir")
        .arg(target)
        .args(arguments)
        .current_dir(PROGRAM)
        // What the outer cargo was told to do with the workspace is not meant for this.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .output()
        .expect("the cargo that runs this test can be started")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
