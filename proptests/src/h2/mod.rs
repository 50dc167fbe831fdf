//! HTTP/2: frames by hand, connections of the core to send them to, and a table of what has to come
//! of it.

pub mod attack;
pub mod end;
pub mod fuzz;
pub(crate) mod mux;
pub mod notation;
pub mod oracle;
pub mod pair;
pub mod table;
pub mod wire;
