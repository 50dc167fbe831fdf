//! Who may reach which port of the app.

use super::Engine;
use super::conn::Conn;
use super::contract::Direction;
use super::exchange::ExchangeId;
use crate::error::Reason;
use crate::identity::Name;

impl Engine {
    /// May the client of this connection reach the port that it wants? Everybody may send to others.
    pub(super) fn authorize(&self, index: u32) -> Result<(), Reason> {
        if self.config.inbound.is_empty() {
            return Ok(());
        }
        let Some(conn) = self.conns.get(index) else { return Err(Reason::ClientGone) };
        if conn.direction == Direction::Outbound {
            return Ok(());
        }
        let port = self.inbound_port(conn);
        let listed = self.config.inbound.iter().find(|inbound| Some(inbound.port) == port);
        let client = conn.peer_identity();
        match listed {
            Some(inbound)
                if !inbound.allow.iter().any(|allow| allow.admits(client))
                    && !canary!(OpenPort) =>
            {
                Err(Reason::Unauthorized)
            }
            _ => Ok(()),
        }
    }

    /// The app's port that an inbound connection is for.
    pub(super) fn inbound_port(&self, conn: &Conn) -> Option<u16> {
        match conn.original_dst {
            Some(dst) if !self.is_inbound_port(dst) => Some(dst.port()),
            _ => self.config.app.map(|app| app.port()),
        }
    }

    /// Whom the app is told that a request comes from: whoever has proven it.
    pub(super) fn client_id(&self, id: ExchangeId) -> Option<Name> {
        // Nobody proves anything to nobody.
        self.config.identity.as_ref()?;
        let down = self.exchanges.get(id)?.down;
        let conn = self.conns.find(down).filter(|conn| conn.direction == Direction::Inbound)?;
        conn.peer_identity().cloned()
    }
}
