//! Fuzz targets: what bytes mean is said in `selvedge-proptests`; here they are only run.
//!
//! `cargo +nightly fuzz run engine` fuzzes. Built without cargo-fuzz, a target runs the files and
//! folders that are its arguments: `cargo run -p selvedge-fuzz --bin engine -- fuzz/corpus/engine`.

mod mesh_file;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use selvedge_proptests::choose::Bytes;
use selvedge_proptests::sim::{self, Scope};
use selvedge_proptests::{codec, hello, hpack, script};

pub use codec::{http1_body, http1_request, http1_response, sniff};
pub use hello::client_hello;
pub use hpack::{hpack_decode, hpack_roundtrip};
pub use mesh_file::mesh_file;
pub use selvedge_proptests::differential::http1_differential;
pub use selvedge_proptests::h2::fuzz::{http2_client, http2_differential, http2_server};
pub use selvedge_proptests::retry::retry_policy;
pub use selvedge_proptests::route::route_match;
pub use selvedge_proptests::tls::tls_session;
pub use selvedge_proptests::translate::translate;
pub use selvedge_proptests::transport_header::transport_header;

/// No script is longer: a fuzzer must not win by being slow.
const STEPS: usize = 2000;

/// The mesh whose choices are these bytes: clients, two engines at least, apps and discovery.
///
/// # Panics
/// If something does not hold.
pub fn engine(data: &[u8]) {
    if let Some(violation) = sim::run(&mut Bytes::new(data), &Scope::SMALL).violation {
        panic!("{violation}");
    }
}

/// The script around one engine whose choices are these bytes: inputs in odd orders.
///
/// # Panics
/// If something does not hold.
pub fn script(data: &[u8]) {
    if let Err(error) = script::run(&mut Bytes::new(data), STEPS) {
        panic!("{error}");
    }
}

/// Runs a target on the files and folders that are the program's arguments, and says how many there
/// were.
pub fn replay(target: fn(&[u8])) -> ExitCode {
    let mut count = 0;
    for argument in env::args_os().skip(1) {
        match replay_path(Path::new(&argument), target) {
            Ok(files) => count += files,
            Err(error) => {
                eprintln!("{}: {error}", argument.display());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} inputs");
    if count == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a target on a file, or on all files of a folder; how many there were.
///
/// # Errors
/// If something cannot be read.
pub fn replay_path(path: &Path, target: fn(&[u8])) -> io::Result<usize> {
    if !path.is_dir() {
        let running = Running(path);
        target(&fs::read(path)?);
        drop(running);
        return Ok(1);
    }
    let entries = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    paths.sort();
    paths.iter().map(|path| replay_path(path, target)).sum()
}

/// Says which file it was, if that panics.
struct Running<'a>(&'a Path);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed: {}", self.0.display());
        }
    }
}
