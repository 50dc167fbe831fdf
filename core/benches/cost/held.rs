//! Memory of what is open and idle.

use std::path::Path;

use selvedge_core::engine::Engine;
use selvedge_core::http2::Connection;

use crate::measured::side_by_side;
use crate::valgrind::{Measure, count};

/// Kinds, the program that holds them, and its arguments.
const KINDS: [(&str, &str, &[&str]); 5] = [
    ("an idle HTTP/1 connection, after a request", "engine_cost", &["idle", "http1"]),
    ("an idle HTTP/2 connection, after SETTINGS and a request", "engine_cost", &["idle", "http2"]),
    ("an opaque connection, to the app and from the client", "engine_cost", &["idle", "tcp"]),
    (
        "an HTTP/2 stream that waits for its answer, both its sides",
        "engine_cost",
        &["idle", "stream"],
    ),
    ("an opaque connection in mutual TLS, both proxies of a pair", "pair_cost", &["idle"]),
];

/// Few, and many: tables that double as they grow are as full with either.
const FEW: u64 = 2048;
const MANY: u64 = 3 * FEW;

pub(crate) fn print(programs: &Path) {
    let each = side_by_side(&KINDS, |_, (_, program, args)| {
        let held = |n: u64| {
            let n = n.to_string();
            let args: Vec<&str> = args.iter().copied().chain([n.as_str()]).collect();
            count(Measure::Held, &programs.join(program), &args)
        };
        (held(MANY) as f64 - held(FEW) as f64) / (MANY - FEW) as f64
    });
    println!("\nBytes on the heap of one more ({FEW} and {MANY} of them, by DHAT):");
    for ((name, ..), bytes) in KINDS.iter().zip(each) {
        println!("{bytes:>12.0}  {name}");
    }
    println!("\nsize_of, in bytes (of what is private: `cargo test -p selvedge-core sizes`):");
    println!("{:>12}  Engine", size_of::<Engine>());
    println!("{:>12}  http2::Connection", size_of::<Connection>());
}
