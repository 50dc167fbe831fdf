//! From a request to a service: authorities, original destinations, the app.

use alloc::format;
use alloc::sync::Arc;
use core::net::SocketAddr;

use super::Engine;
use super::contract::Direction;
use super::mesh::{ServiceKind, Times};
use crate::balance::{Member, hash};
use crate::config::{ListenerKind, ServiceTimeouts};
use crate::error::Reason;
use crate::http::authority;

impl Engine {
    /// The service for a request with this authority on the connection `index`.
    pub(super) fn route(&mut self, index: u32, authority: Option<&[u8]>) -> Result<u32, Reason> {
        let Some(conn) = self.conns.get(index) else { return Err(Reason::ClientGone) };
        let (direction, original_dst) = (conn.direction, conn.original_dst);
        self.authorize(index)?;
        if direction == Direction::Outbound
            && let Some(service) = self.named(authority)
        {
            return Ok(service);
        }
        let found = self.route_unnamed(direction, original_dst, Reason::UnknownAuthority);
        found.map_err(|reason| match reason {
            Reason::UnknownAuthority => self.unknown(authority),
            other => other,
        })
    }

    /// Nobody is called so. Notes it for who tells of it.
    pub(super) fn unknown(&mut self, authority: Option<&[u8]>) -> Reason {
        self.authority.clear();
        if let Some(authority) = authority {
            // What is none is empty then.
            let _ = authority::normalize(authority, 80, &mut self.authority);
        }
        Reason::UnknownAuthority
    }

    /// The configured service of an authority.
    pub(super) fn named(&mut self, name: Option<&[u8]>) -> Option<u32> {
        let name = name?;
        if let Some(service) = self.mesh.spellings.get(name) {
            return Some(service);
        }
        authority::normalize(name, 80, &mut self.authority).ok()?;
        self.mesh.by_name.get(self.authority.as_str()).copied()
    }

    /// Where traffic goes that names no service: its original destination, or the app.
    pub(super) fn route_unnamed(
        &mut self,
        direction: Direction,
        original_dst: Option<SocketAddr>,
        nowhere: Reason,
    ) -> Result<u32, Reason> {
        match (direction, original_dst) {
            // The mesh dialled us by our own port: it means the app.
            (Direction::Inbound, Some(dst)) if self.is_inbound_port(dst) => {
                self.mesh.app.ok_or(nowhere)
            }
            // A transport header named the app's port.
            (Direction::Inbound, Some(dst)) if self.config.app == Some(dst) => {
                self.mesh.app.ok_or(nowhere)
            }
            (_, Some(dst)) if self.is_self(dst) => Err(Reason::Loop),
            (Direction::Outbound, Some(dst)) if dst.ip().to_canonical().is_loopback() => {
                Err(Reason::Loopback)
            }
            (_, Some(dst)) => Ok(self.original(direction, dst)),
            (Direction::Inbound, None) => self.mesh.app.ok_or(nowhere),
            (Direction::Outbound, None) => Err(nowhere),
        }
    }

    /// Is `addr` one of our own sockets?
    pub(super) fn is_self(&self, addr: SocketAddr) -> bool {
        let ip = addr.ip().to_canonical();
        let listeners = self.listeners.iter().map(|listener| &listener.addr);
        listeners.chain(&self.config.own).any(|listener| {
            let own = listener.ip().to_canonical();
            let covers = own.is_unspecified() && (ip.is_loopback() || ip.is_unspecified());
            listener.port() == addr.port() && (own == ip || covers)
        })
    }

    pub(super) fn is_inbound_port(&self, addr: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            listener.kind == ListenerKind::Inbound && listener.addr.port() == addr.port()
        })
    }

    /// The service of an original destination, made on demand.
    fn original(&mut self, direction: Direction, dst: SocketAddr) -> u32 {
        if let Some(&service) = self.mesh.originals.get(&(direction, dst)) {
            return service;
        }
        let times = Times::new(&self.config.timeouts, &ServiceTimeouts::default());
        let name: Arc<str> = format!("{dst}").into();
        let service = self.mesh.add_service(name, direction, ServiceKind::Original, times);
        let member = Member { weight: 1, name: hash::member_name(dst, None), local: false };
        self.mesh.add_endpoint(service, dst, &member, false, self.now);
        self.mesh.originals.insert((direction, dst), service);
        service
    }
}
