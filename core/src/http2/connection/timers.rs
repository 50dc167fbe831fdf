//! What has to happen in time.

use super::super::error::Violation;
use super::{Connection, Going, Ping};
use crate::buf::OutQueue;
use crate::time::Time;

impl Connection {
    /// When [`Connection::handle_timeout`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        let farewell = match self.going {
            Going::Announced(due) => Some(due),
            Going::No | Going::Last(_) => None,
        };
        let linger = self.lingering.front().map(|&(due, _)| due);
        [self.settings_due, self.block_due(), self.ping_due(), farewell, linger]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    ///
    /// # Errors
    ///
    /// The peer took too long: as for [`Connection::poll`].
    pub fn handle_timeout(&mut self, tx: &mut OutQueue, now: Time) -> Result<(), Violation> {
        if let Some(violation) = self.dead {
            return Err(violation);
        }
        let is_due = |due: Option<Time>| due.is_some_and(|due| due <= now);
        let violation = if is_due(self.settings_due) {
            Violation::SettingsTimeout
        } else if is_due(self.block_due()) {
            Violation::HeaderTimeout
        } else if is_due(self.ping_due()) {
            Violation::PingTimeout
        } else {
            if let Going::Announced(due) = self.going
                && due <= now
            {
                self.say_last(tx);
            }
            self.end_lingering(tx, now);
            return Ok(());
        };
        self.die(violation, tx);
        Err(violation)
    }

    fn block_due(&self) -> Option<Time> {
        self.block_since.map(|since| since + self.config.header_timeout)
    }

    fn ping_due(&self) -> Option<Time> {
        match self.ping {
            Ping::Sent(due) => Some(due),
            Ping::No => None,
        }
    }
}
