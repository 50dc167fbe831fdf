//! What every adapter must do. The test binary of an adapter includes this beside a module
//! `adapter`: the adapter's public API, and a `block_on`.

mod common;
mod http;
mod tcp;
