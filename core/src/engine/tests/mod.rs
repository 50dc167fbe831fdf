//! The engine, driven by hand: what each input makes it do.

mod affinity;
mod attempts;
mod balancing;
mod breaker;
mod check;
mod drain;
mod hello;
mod http;
mod http2_ends;
mod http2_flow;
mod http2_mesh;
mod http2_messages;
mod http2_rig;
mod http2_tunnels;
mod http2_turns;
mod limits;
mod mirror;
mod queues;
mod rates;
mod regressions;
mod retries;
mod rig;
mod routes;
mod tls;
mod tls_rig;
mod tunnels;
