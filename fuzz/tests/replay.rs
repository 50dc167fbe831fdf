//! Every input that is kept passes.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let count = selvedge_fuzz::replay_path(&corpus, target).expect("a corpus");
    assert!(count > 0, "{} is empty", corpus.display());
}

#[test]
fn sniff() {
    replay("sniff", selvedge_fuzz::sniff);
}

#[test]
fn http1_request() {
    replay("http1_request", selvedge_fuzz::http1_request);
}

#[test]
fn http1_response() {
    replay("http1_response", selvedge_fuzz::http1_response);
}

#[test]
fn http1_body() {
    replay("http1_body", selvedge_fuzz::http1_body);
}

#[test]
fn http1_differential() {
    replay("http1_differential", selvedge_fuzz::http1_differential);
}

#[test]
fn engine() {
    replay("engine", selvedge_fuzz::engine);
}
