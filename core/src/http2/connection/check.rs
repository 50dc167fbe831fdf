//! What must hold between any two calls.

use alloc::format;
use alloc::string::String;

use super::super::settings::{DEFAULT_WINDOW, MAX_WINDOW};
use super::super::stream::{Half, Stream, StreamKey};
use super::Connection;

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

impl Connection {
    /// Checks that nothing contradicts anything else: sums, lists, and that no credit was lost. Walks
    /// all streams: for tests and simulations.
    ///
    /// # Errors
    ///
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        let (mut held, mut queued, mut retained, mut growth) = (0, 0, 0, 0);
        for key in self.streams.keys() {
            let Some(stream) = self.streams.get(key) else {
                return Err(format!("stream {} is listed and not there", key.id));
            };
            self.check_stream(key, stream)?;
            held += stream.held as usize;
            queued += stream.queue.unsent();
            retained += stream.queue.held() - stream.queue.unsent();
            growth += stream.window - self.base_window;
        }
        ensure!(held == self.held, "{held} bytes are held, and {} counted", self.held);
        ensure!(queued == self.queued, "{queued} bytes are queued, and {} counted", self.queued);
        ensure!(retained == self.retained, "{retained} bytes kept, and {} counted", self.retained);
        ensure!(growth == self.growth, "windows grew by {growth}, and {} counted", self.growth);
        let window = i64::from(self.config.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW));
        let credit = i64::from(self.recv_window) + i64::from(self.recv_credit);
        ensure!(credit == window, "the connection's credit is {credit} of {window}");
        Ok(())
    }

    fn check_stream(&self, key: StreamKey, stream: &Stream) -> Result<(), String> {
        let id = key.id;
        ensure!(stream.id == id, "stream {id} is {}", stream.id);
        ensure!(!stream.is_over(), "stream {id} is over and still there");
        let credit =
            i64::from(stream.recv_window) + i64::from(stream.credit) + i64::from(stream.held);
        let window = stream.window;
        ensure!(credit == i64::from(window), "stream {id} has credit {credit} of {window}");
        let unsent = stream.queue.unsent();
        ensure!(
            stream.send == Half::Body || unsent == 0,
            "stream {id} has {unsent} bytes too many"
        );
        let ready = if unsent > 0 { stream.send_window > 0 } else { stream.flags.ending };
        let listed = self.sendable.contains(&key);
        ensure!(listed == stream.flags.sendable, "stream {id} is in the wrong list");
        ensure!(listed || !ready || stream.send != Half::Body, "stream {id} was forgotten");
        let progressed = self.progressed.contains(&key);
        ensure!(progressed == stream.flags.progressed, "stream {id} and its progress differ");
        let unsettled = self.unsettled.contains(&key);
        ensure!(unsettled == stream.flags.unsettled, "stream {id} is settled and is not");
        Ok(())
    }
}
