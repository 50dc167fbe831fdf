//! Every input that is kept passes.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let count = selvedge_fuzz::replay_path(&corpus, target).expect("a corpus");
    assert!(count > 0, "{} is empty", corpus.display());
}

/// A target without a corpus or a dictionary starts from nothing, and is not replayed.
#[test]
fn every_target_has_a_corpus_and_a_dictionary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets = std::fs::read_dir(folder.join("fuzz_targets")).expect("targets");
    for target in targets.map(|target| target.expect("a target").path()) {
        let name = target.file_stem().expect("a name");
        let corpus = std::fs::read_dir(folder.join("corpus").join(name));
        assert!(corpus.is_ok_and(|mut files| files.next().is_some()), "{}", target.display());
        let dictionary = folder.join("dict").join(name).with_extension("dict");
        assert!(dictionary.is_file(), "{}", dictionary.display());
        let me = include_str!("replay.rs");
        assert!(me.contains(&format!("fn {}()", name.display())), "{} is not here", name.display());
    }
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
fn tls_session() {
    replay("tls_session", selvedge_fuzz::tls_session);
}

#[test]
fn mesh_file() {
    replay("mesh_file", selvedge_fuzz::mesh_file);
}

#[test]
fn retry_policy() {
    replay("retry_policy", selvedge_fuzz::retry_policy);
}

#[test]
fn route_match() {
    replay("route_match", selvedge_fuzz::route_match);
}

#[test]
fn engine() {
    replay("engine", selvedge_fuzz::engine);
}

#[test]
fn script() {
    replay("script", selvedge_fuzz::script);
}

#[test]
fn hpack_decode() {
    replay("hpack_decode", selvedge_fuzz::hpack_decode);
}

#[test]
fn hpack_roundtrip() {
    replay("hpack_roundtrip", selvedge_fuzz::hpack_roundtrip);
}

#[test]
fn client_hello() {
    replay("client_hello", selvedge_fuzz::client_hello);
}

#[test]
fn transport_header() {
    replay("transport_header", selvedge_fuzz::transport_header);
}

#[test]
fn http2_server() {
    replay("http2_server", selvedge_fuzz::http2_server);
}

#[test]
fn http2_client() {
    replay("http2_client", selvedge_fuzz::http2_client);
}

#[test]
fn http2_differential() {
    replay("http2_differential", selvedge_fuzz::http2_differential);
}

#[test]
fn translate() {
    replay("translate", selvedge_fuzz::translate);
}
