//! Hosts: state machines that are told what happens to their connections, and to time.

pub(super) mod app;
pub(super) mod client;
pub(super) mod discovery;
pub(super) mod engine;
mod frames;
mod http2;
pub(super) mod mirror;
mod stream;
mod wire;

use selvedge_core::error::ConnectError;

use super::invariant::Check;
use super::link::LinkId;
use super::net::Net;

/// What every host is told. An end of a connection is a link and its side.
pub(super) trait Host {
    /// A connect of this host is done.
    fn connected(
        &mut self,
        net: &mut Net<'_>,
        link: LinkId,
        result: Result<(), ConnectError>,
    ) -> Check;

    /// A connection came in. It may be refused.
    fn accepted(&mut self, net: &mut Net<'_>, link: LinkId) -> Check;

    /// There may be something to read, or the connection broke.
    fn readable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check;

    /// A write that took less than everything may go on.
    fn writable(&mut self, net: &mut Net<'_>, link: LinkId, side: usize) -> Check;

    /// The time that the host asked for has come.
    fn woken(&mut self, net: &mut Net<'_>, slot: u32, token: u32) -> Check;
}
