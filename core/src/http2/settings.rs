//! SETTINGS (RFC 9113 §6.5).

use bytes::BytesMut;

use super::error::Violation;
use super::frame::{DEFAULT_MAX_FRAME, FrameHeader, Kind, flags};

/// The window that streams and the connection begin with (RFC 9113 §6.9.2).
pub const DEFAULT_WINDOW: u32 = 65_535;

/// The largest window (RFC 9113 §6.9.1).
pub const MAX_WINDOW: u32 = 0x7fff_ffff;

/// What one side tells the other about itself. The default is what holds before anything was said
/// (RFC 9113 §6.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Octets of the HPACK table that the sender of these keeps for decoding.
    pub header_table_size: u32,
    /// May the peer push?
    pub enable_push: bool,
    /// Streams that the peer may have open at once; `None`: no limit.
    pub max_concurrent_streams: Option<u32>,
    /// The window that new streams begin with.
    pub initial_window_size: u32,
    /// The largest payload of a frame.
    pub max_frame_size: u32,
    /// The largest header section, by HPACK's measure (RFC 9113 §6.5.2: advisory).
    pub max_header_list_size: Option<u32>,
    /// Extended CONNECT is understood (RFC 8441 §3).
    pub enable_connect_protocol: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            header_table_size: 4096,
            enable_push: true,
            max_concurrent_streams: None,
            initial_window_size: DEFAULT_WINDOW,
            max_frame_size: DEFAULT_MAX_FRAME as u32,
            max_header_list_size: None,
            enable_connect_protocol: false,
        }
    }
}

/// Identifiers (RFC 9113 §6.5.2, RFC 8441 §9.1).
mod id {
    pub(super) const HEADER_TABLE_SIZE: u16 = 0x1;
    pub(super) const ENABLE_PUSH: u16 = 0x2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 0x4;
    pub(super) const MAX_FRAME_SIZE: u16 = 0x5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    pub(super) const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

impl Settings {
    /// Applies a payload, whose length is a multiple of 6, in its order. Unknown ones are skipped.
    ///
    /// # Errors
    ///
    /// [`Violation::SettingValue`] or [`Violation::SettingWindow`] for a value out of range.
    pub(crate) fn apply(&mut self, payload: &[u8]) -> Result<(), Violation> {
        for entry in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match id {
                id::HEADER_TABLE_SIZE => self.header_table_size = value,
                id::ENABLE_PUSH => self.enable_push = boolean(value)?,
                id::MAX_CONCURRENT_STREAMS => self.max_concurrent_streams = Some(value),
                id::INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                    return Err(Violation::SettingWindow);
                }
                id::INITIAL_WINDOW_SIZE => self.initial_window_size = value,
                id::MAX_FRAME_SIZE => {
                    if !(DEFAULT_MAX_FRAME as u32..1 << 24).contains(&value) {
                        return Err(Violation::SettingValue);
                    }
                    self.max_frame_size = value;
                }
                id::MAX_HEADER_LIST_SIZE => self.max_header_list_size = Some(value),
                id::ENABLE_CONNECT_PROTOCOL => {
                    let enable = boolean(value)?;
                    // RFC 8441 §3: it is not taken back.
                    if self.enable_connect_protocol && !enable {
                        return Err(Violation::SettingValue);
                    }
                    self.enable_connect_protocol = enable;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a SETTINGS frame with everything that is not the default.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let default = Settings::default();
        let mut entries = [(0, 0); 7];
        let mut count = 0;
        let mut put = |id, value, differs| {
            if differs {
                entries[count] = (id, value);
                count += 1;
            }
        };
        let table = self.header_table_size;
        put(id::HEADER_TABLE_SIZE, table, table != default.header_table_size);
        put(id::ENABLE_PUSH, 0, !self.enable_push);
        let streams = self.max_concurrent_streams;
        put(id::MAX_CONCURRENT_STREAMS, streams.unwrap_or(0), streams.is_some());
        let window = self.initial_window_size;
        put(id::INITIAL_WINDOW_SIZE, window, window != default.initial_window_size);
        let frame = self.max_frame_size;
        put(id::MAX_FRAME_SIZE, frame, frame != default.max_frame_size);
        let list = self.max_header_list_size;
        put(id::MAX_HEADER_LIST_SIZE, list.unwrap_or(0), list.is_some());
        put(id::ENABLE_CONNECT_PROTOCOL, 1, self.enable_connect_protocol);
        let entries = &entries[..count];
        FrameHeader { length: 6 * entries.len(), kind: Kind::Settings, flags: 0, stream: 0 }
            .write(out);
        for (id, value) in entries {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&u32::to_be_bytes(*value));
        }
    }
}

/// Every SETTINGS_HEADER_TABLE_SIZE of a payload, in order: the smallest counts, too (RFC 7541 §4.2).
pub(crate) fn header_table_sizes(payload: &[u8]) -> impl Iterator<Item = u32> + '_ {
    let id = id::HEADER_TABLE_SIZE.to_be_bytes();
    payload
        .chunks_exact(6)
        .filter(move |entry| entry[..2] == id)
        .map(|entry| u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
}

/// Writes the acknowledgement.
pub(crate) fn write_ack(out: &mut BytesMut) {
    FrameHeader { length: 0, kind: Kind::Settings, flags: flags::ACK, stream: 0 }.write(out);
}

fn boolean(value: u32) -> Result<bool, Violation> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::SettingValue),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let settings = Settings {
            header_table_size: 0,
            enable_push: false,
            max_concurrent_streams: Some(7),
            initial_window_size: 16_384,
            max_frame_size: 1 << 20,
            max_header_list_size: Some(65_536),
            enable_connect_protocol: true,
        };
        for settings in [settings, Settings::default()] {
            let mut out = BytesMut::new();
            settings.write(&mut out);
            let mut read = Settings::default();
            assert_eq!(read.apply(&out[9..]), Ok(()));
            assert_eq!(read, settings);
        }
    }

    #[test]
    fn values_out_of_range_are_refused_and_unknown_ids_are_not() {
        let apply = |id: u16, value: u32| {
            let mut payload = [0; 6];
            payload[..2].copy_from_slice(&id.to_be_bytes());
            payload[2..].copy_from_slice(&value.to_be_bytes());
            Settings::default().apply(&payload)
        };
        assert_eq!(apply(2, 2), Err(Violation::SettingValue));
        assert_eq!(apply(4, 1 << 31), Err(Violation::SettingWindow));
        assert_eq!(apply(4, (1 << 31) - 1), Ok(()));
        assert_eq!(apply(5, 16_383), Err(Violation::SettingValue));
        assert_eq!(apply(5, 1 << 24), Err(Violation::SettingValue));
        assert_eq!(apply(5, (1 << 24) - 1), Ok(()));
        assert_eq!(apply(8, 2), Err(Violation::SettingValue));
        assert_eq!(apply(0xaaaa, u32::MAX), Ok(()));
    }

    #[test]
    fn extended_connect_is_not_taken_back() {
        let mut settings = Settings { enable_connect_protocol: true, ..Settings::default() };
        assert_eq!(settings.apply(&[0, 8, 0, 0, 0, 0]), Err(Violation::SettingValue));
    }
}
