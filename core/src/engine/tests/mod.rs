//! The engine, driven by hand: what each input makes it do.

mod balancing;
mod drain;
mod http;
mod limits;
mod regressions;
mod rig;
mod tunnels;
