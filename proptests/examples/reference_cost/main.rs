//! The same bytes through the least that can be made of the `h2` crate or of hyper, a server's connection
//! that hands each request to a client's: for counting instructions and allocations beside ours.
//!
//! `reference_cost h2 record STREAMS COUNT FILE` and `reference_cost h2 replay FILE`, as `hop_cost` of
//! the core; `reference_cost hyper COUNT`, as its `exchange_cost`. There is neither routing nor a
//! balancer, a timeout or a counter in them.

mod http1;
mod http2;
#[path = "../../../core/examples/common/messages.rs"]
mod messages;
#[path = "../../../core/examples/common/peer.rs"]
mod peer;
mod pipe;
#[path = "../../../core/examples/common/record.rs"]
mod record;

use std::{env, fs};

use record::{Talk, Through, number};

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["h2", "record", streams, count, file] => {
            let (streams, count) = (number(streams), number(count));
            let talk = Talk { from_http2: true, to_http2: true, clients: 1, streams, count };
            let log = record::record(&mut http2::Hop::new(), talk);
            fs::write(file, log).expect("cannot write");
        }
        ["h2", "replay", file] => {
            let log = fs::read(file).expect("cannot read");
            let mut hop = http2::Hop::new();
            record::replay(&mut hop, &log);
            let _ = hop.wrote();
            assert!(hop.total() > log.len() / 2, "all of it was forwarded");
        }
        ["hyper", count] => http1::run(number(count)),
        _ => panic!("h2 record STREAMS COUNT FILE, h2 replay FILE, or hyper COUNT"),
    }
}
