//! Says precisely what is wrong with a head that httparse refused, and checks single lines.

use memchr::memchr;

use crate::error::Reason;
use crate::http::grammar::{is_token, is_value_byte, trim};

/// Why httparse refused this request head. Slow; only for refusals.
#[cold]
pub(super) fn request(head: &[u8]) -> Reason {
    let mut lines = lines(head).skip_while(|line| line.is_empty());
    if let Err(reason) = request_line(lines.next().unwrap_or_default()) {
        return reason;
    }
    lines
        .take_while(|line| !line.is_empty())
        .find_map(|line| field_line(line).err())
        // Both parsers follow the same grammar; if they ever differ, the message is refused.
        .unwrap_or(Reason::RequestLine)
}

/// The lines of a head that a scanner has let pass: each ends in CRLF.
pub(crate) fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// Is this the third part of a request line (RFC 9112 §2.3)? Case-sensitive.
pub(super) fn version(version: &[u8]) -> Result<(), Reason> {
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Reason::Version)
        }
        _ => Err(Reason::RequestLine),
    }
}

fn request_line(line: &[u8]) -> Result<(), Reason> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(last), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Reason::RequestLine);
    };
    version(last)?;
    if method.is_empty() || target.is_empty() {
        return Err(Reason::RequestLine);
    }
    if !is_token(method) {
        return Err(forbidden_byte(method).unwrap_or(Reason::Method));
    }
    if let Some(reason) = forbidden_byte(target) {
        return Err(reason);
    }
    core::str::from_utf8(target).map(|_| ()).map_err(|_| Reason::Target)
}

/// The name and the value of a field line without its CRLF (RFC 9112 §5), or what is wrong with it.
pub(crate) fn field_line(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    let Some(colon) = memchr(b':', line) else {
        return Err(forbidden_byte(line).unwrap_or(Reason::FieldName));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name {
        [] => return Err(Reason::FieldName),
        [b' ' | b'\t', ..] => return Err(Reason::ObsoleteFold),
        [.., b' ' | b'\t'] => return Err(Reason::SpaceBeforeColon),
        _ if !is_token(name) => return Err(forbidden_byte(name).unwrap_or(Reason::FieldName)),
        _ => {}
    }
    if let Some(&byte) = value.iter().find(|&&byte| !is_value_byte(byte)) {
        return Err(control(byte));
    }
    Ok((name, trim(value)))
}

/// The first control character's reason; a tab is one here.
fn forbidden_byte(bytes: &[u8]) -> Option<Reason> {
    bytes.iter().find(|&&byte| byte < 0x20 || byte == 0x7f).map(|&byte| control(byte))
}

fn control(byte: u8) -> Reason {
    match byte {
        0 => Reason::Nul,
        b'\r' => Reason::BareCr,
        b'\n' => Reason::BareLf,
        _ => Reason::ControlCharacter,
    }
}
