//! The binary between programs that none of us wrote: curl, wrk, h2load, nghttp, nghttpd, ncat,
//! HAProxy, nginx, openssl, hyper, tonic, grpcio, Python's `websockets`, h2, wsproto, http.server and
//! socketserver, and the kernel's redirects.
//!
//! A test that misses a program or a privilege says so and passes; with `SELVEDGE_REQUIRE_PEERS=1`
//! it fails. `SELVEDGE_FULL=1` runs the full sizes.

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod backend;
mod canary;
mod chain;
mod cli;
mod crowd;
mod curl;
mod cut;
mod drain;
mod fairness;
mod flow;
mod grpc;
mod h2load;
mod http2;
mod hyper;
mod hyper_versions;
mod mtls;
mod nghttp;
mod policy;
mod redirect;
mod reload;
mod smol;
mod sni;
mod tcp;
mod tonic;
mod websocket;
mod websocket_streams;
mod wrk;
