//! What apps and client share: what they speak, and as much of HTTP/1.1 as they need.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::grpc;

/// What the client and the apps speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// GETs over HTTP/1.1.
    Http1,
    /// Unary calls over HTTP/2.
    Grpc,
}

impl Wire {
    /// The status of an answer that is as it should be.
    pub(super) fn success(self) -> u16 {
        match self {
            Wire::Http1 => 200,
            Wire::Grpc => grpc::OK,
        }
    }
}

/// What an app says its name with, so that the client can tell who answered.
pub(super) const APP_FIELD: &str = "x-app";

/// What Selvedge tells an app with whose request it is, if that has proven to be somebody.
pub(super) const IDENTITY_FIELD: &str = "l5d-client-id";

/// The value of a field of a complete head.
pub(super) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = str::from_utf8(head).ok()?;
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// Reads until a complete head is at the front of `buffer`: how long it is, or `None` if the peer
/// closed the connection before it began one.
///
/// # Errors
/// The connection broke, or ended within a head.
pub(super) async fn read_head(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if stream.read_buf(buffer).await? == 0 {
            let clean = buffer.is_empty();
            return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}

/// Reads until `buffer` holds `length` bytes.
///
/// # Errors
/// The connection broke or ended before that.
pub(super) async fn read_to_length(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
