//! TLS from a client: for whom it is, and where it goes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::conn::State;
use super::contract::{CloseKind, Direction, Event};
use crate::error::Reason;
use crate::tls::{Decision, Malformed};

/// What a decision means for this connection.
enum Way {
    /// To us.
    Ours,
    /// To its original destination, or to the app.
    Unnamed,
    /// To this service, which it named.
    Service(u32),
    /// It named what nobody knows.
    Unknown(Arc<str>),
    Close(Reason),
}

impl Engine {
    /// Looks at what came of a ClientHello.
    pub(super) fn drive_hello(&mut self, index: u32) {
        let limit = self.config.limits.client_hello_bytes;
        let mut scratch = Vec::new();
        let Some(conn) = self.conns.get_mut(index) else { return };
        let State::Detect(detect) = &mut conn.state else { return };
        let scanner = detect.hello.get_or_insert_default();
        let hello = match scanner.scan(&conn.rx, &mut scratch, limit) {
            Ok(Some(hello)) => Ok(hello),
            Ok(None) => return self.expect_beginning(index),
            Err(malformed) => Err(malformed),
        };
        let stats = &mut self.directions[conn.direction as usize];
        stats.detect.duration.record(self.now - detect.accepted);
        if hello.is_ok() {
            stats.detect.tls += 1;
        } else {
            stats.detect.opaque += 1;
        }
        // Local apps do not ask for us: what they send is for others. So is TLS inside of TLS.
        let identity = self.config.identity.as_ref();
        let local = detect.local.filter(|_| conn.direction == Direction::Inbound);
        let identity = identity.filter(|_| local.is_some());
        let own = identity.map(|identity| &*identity.server_name);
        let way = match Decision::of(hello, own, self.config.nameless_tls) {
            Decision::Terminate => {
                stats.hellos.terminated += 1;
                Way::Ours
            }
            Decision::Close => {
                stats.hellos.closed += 1;
                Way::Close(Reason::ServerNameMissing)
            }
            Decision::Opaque(malformed) => {
                stats.hellos.malformed[malformed as usize] += 1;
                Way::Unnamed
            }
            Decision::Passthrough(None) => {
                stats.hellos.nameless += 1;
                Way::Unnamed
            }
            Decision::Passthrough(Some(name)) => {
                // As with HTTP, the mesh does not choose among the services of our app.
                let has_way = conn.direction == Direction::Inbound || conn.original_dst.is_some();
                match self.mesh.host(name, &mut self.authority) {
                    _ if has_way => {
                        stats.hellos.passed += 1;
                        Way::Unnamed
                    }
                    Some(service) => {
                        stats.hellos.passed += 1;
                        Way::Service(service)
                    }
                    None => {
                        stats.hellos.unknown += 1;
                        Way::Unknown(Arc::from(name))
                    }
                }
            }
        };
        match way {
            Way::Ours => self.begin_tls(index, local),
            Way::Unnamed => self.begin_opaque(index),
            Way::Service(service) => self.begin_tunnel(index, service, None),
            Way::Unknown(name) => self.close_unknown(index, name),
            Way::Close(reason) => self.close_unserved(index, reason),
        }
    }

    /// Detection has waited long enough, or there is nothing more to come: what came is opaque.
    pub(super) fn give_up_detection(&mut self, index: u32) {
        let Some(conn) = self.conns.get(index) else { return };
        let State::Detect(detect) = &conn.state else { return };
        let stats = &mut self.directions[conn.direction as usize];
        stats.detect.duration.record(self.now - detect.accepted);
        if conn.rx.is_empty() {
            stats.detect.timeout += 1;
        } else {
            stats.detect.opaque += 1;
        }
        if detect.hello.is_some() {
            stats.hellos.malformed[Malformed::Incomplete as usize] += 1;
        }
        self.begin_opaque(index);
    }

    /// Closes a connection whose server name no service has.
    fn close_unknown(&mut self, index: u32, name: Arc<str>) {
        let Some(conn) = self.conns.get(index) else { return };
        let (direction, peer) = (conn.direction, conn.peer);
        self.direction(direction).refused[Reason::UnknownServerName as usize] += 1;
        if let Some(conn) = self.conns.id(index) {
            self.emit(Event::UnknownServerName { conn, direction, peer, name });
        }
        self.end_conn(index, CloseKind::Abort);
    }
}
