//! The table of malformed and ambiguous HTTP/1 messages, and of honest ones that look like them.
//!
//! It lives in `proptests/tables/*.toml`: TOML, because people review and extend it, and because its
//! literal strings (`'…'`) leave escapes to us. A file is a list of tables, one per case, named by
//! their header:
//!
//! ```toml
//! [length_and_coding]                   # what the case is called, unique in all files
//! clause = "RFC 9112 §6.1"              # what it breaks, or what makes it legal
//! bytes = 'POST / HTTP/1.1\r\nHost: …'  # what is sent; see below
//! expect = "400 length_and_coding"      # see below
//! ```
//!
//! | key | meaning |
//! |---|---|
//! | `bytes` | `\r \n \t \0 \\ \xNN` are bytes; `{"ab"*3}` is `ababab` (escapes first); `{each}` see `each` |
//! | `each` | one case for each of these bytes, put where `{each}` stands |
//! | `expect` | `"400"`: refused with this status; `"400 label"`: for this [`Reason`]; `"close"`: no answer needed, but the connection ends; `"forward"`: honest |
//! | `reached` | of what is refused: `"nothing"` (default) reaches the far side; `"head"`: a head may, a complete message never |
//! | `after_good` | the bytes follow an honest request on the same connection: alone, detection would not take them for HTTP |
//! | `request` | of a response: what it answers (default: a GET) |
//! | `then` | what the sender does after the bytes: `"open"` (default), `"eof"`, `"reset"` |
//! | `forwarded` | what the far side gets, compared by meaning: lines, fields in order, body, trailers; not how it is framed, nor `Connection` |
//! | `has`, `lacks` | field lines and field names that the first forwarded message must and must not have, framing included |
//! | `tunnel` | the bytes that come out of the far end of a tunnel |
//! | `keeps` | of what is honest: is the client's connection kept? |
//! | `reused` | of an honest response: may the backend's connection serve another request? |

use std::collections::BTreeMap;

use selvedge_core::error::Reason;
use serde::Deserialize;

pub(crate) mod bytes;
#[cfg(test)]
mod tests;

/// The authorities that requests of the table go to: each is a service. All others are unknown.
pub const AUTHORITIES: [&str; 4] =
    ["a.example:80", "b.example:80", "[2001:db8::1]:80", "192.0.2.1:80"];

/// The honest request that goes before a case with [`Case::after_good`], and that the responses of
/// the table answer if they do not say otherwise.
pub const GOOD_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Unique; a case made by `each` ends in the byte, in hexadecimal.
    pub name: String,
    /// The clause that it breaks, or that makes it legal: `RFC 9112 §5.1`.
    pub clause: String,
    /// Who sends [`Case::bytes`].
    pub kind: Kind,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What becomes of it.
    pub expect: Expect,
    /// How much of what is refused may reach the far side.
    pub reached: Reached,
    /// The bytes follow [`GOOD_REQUEST`] on the same connection.
    pub after_good: bool,
    /// What the sender does after the bytes.
    pub then: Then,
    /// What the far side gets, as messages to compare by meaning.
    pub forwarded: Option<Vec<u8>>,
    /// Field lines that the first forwarded message must have.
    pub has: Vec<Vec<u8>>,
    /// Names of fields that the first forwarded message must not have.
    pub lacks: Vec<Vec<u8>>,
    /// What comes out of the far end of a tunnel.
    pub tunnel: Option<Vec<u8>>,
    /// Is the client's connection kept?
    pub keeps: Option<bool>,
    /// May the backend's connection serve another request?
    pub reused: Option<bool>,
}

/// Who sends the bytes of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client.
    Request,
    /// A backend, in answer to this request.
    Response(Vec<u8>),
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The client is answered this status, and its connection closed.
    Refused {
        /// The status.
        status: u16,
        /// Why, where only one reason is right.
        reason: Option<Reason>,
    },
    /// The client's connection ends, with an answer or without.
    Closed,
    /// It is honest and goes on.
    Forward,
}

/// How much of a refused message may reach the far side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// Not a byte.
    #[default]
    Nothing,
    /// A head and a part of the body, but never the end.
    Head,
}

/// What a sender does after its last byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// Nothing.
    #[default]
    Open,
    /// It closes its side (FIN).
    Eof,
    /// It resets the connection.
    Reset,
}

/// The requests of the table.
///
/// # Panics
/// If a file is not as the module describes.
pub fn requests() -> Vec<Case> {
    let kind = |_: &Row| Ok(Kind::Request);
    load(REQUEST_FILES, kind).unwrap_or_else(|error| panic!("{error}"))
}

/// The responses of the table.
///
/// # Panics
/// If a file is not as the module describes.
pub fn responses() -> Vec<Case> {
    let kind = |row: &Row| {
        let request = row.request.as_deref().map(bytes::unescape).transpose()?;
        Ok(Kind::Response(request.unwrap_or_else(|| GOOD_REQUEST.to_vec())))
    };
    load(RESPONSE_FILES, kind).unwrap_or_else(|error| panic!("{error}"))
}

macro_rules! files {
    ($($name:literal)*) => { &[$(($name, include_str!(concat!("../../tables/", $name)))),*] };
}

const REQUEST_FILES: &[(&str, &str)] = files!(
    "request-line.toml"
    "request-target.toml"
    "request-host.toml"
    "request-field.toml"
    "request-length.toml"
    "request-chunk.toml"
    "request-other.toml"
);

const RESPONSE_FILES: &[(&str, &str)] = files!("response-head.toml" "response-body.toml");

/// A case as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    clause: String,
    bytes: String,
    expect: String,
    each: Option<String>,
    #[serde(default)]
    reached: Reached,
    #[serde(default)]
    after_good: bool,
    request: Option<String>,
    #[serde(default)]
    then: Then,
    forwarded: Option<String>,
    #[serde(default)]
    has: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    tunnel: Option<String>,
    keeps: Option<bool>,
    reused: Option<bool>,
}

fn load(
    files: &[(&str, &str)],
    kind: impl Fn(&Row) -> Result<Kind, String>,
) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for &(file, text) in files {
        let rows: BTreeMap<String, Row> =
            toml::from_str(text).map_err(|error| format!("{file}: {error}"))?;
        for (name, row) in rows {
            kind(&row)
                .and_then(|kind| expand(&name, &row, &kind, &mut cases))
                .map_err(|error| format!("{file}: {name}: {error}"))?;
        }
    }
    Ok(cases)
}

/// Adds the one case of a row, or one for each byte of `each`.
fn expand(name: &str, row: &Row, kind: &Kind, cases: &mut Vec<Case>) -> Result<(), String> {
    let Some(each) = &row.each else {
        cases.push(case(name.to_owned(), &row.bytes, row, kind)?);
        return Ok(());
    };
    if !row.bytes.contains("{each}") {
        return Err("`each` without `{each}`".to_owned());
    }
    for byte in bytes::unescape(each)? {
        let text = row.bytes.replace("{each}", &format!("\\x{byte:02x}"));
        cases.push(case(format!("{name}_{byte:02x}"), &text, row, kind)?);
    }
    Ok(())
}

fn case(name: String, text: &str, row: &Row, kind: &Kind) -> Result<Case, String> {
    let option = |text: &Option<String>| text.as_deref().map(bytes::unescape).transpose();
    let list = |texts: &[String]| -> Result<Vec<_>, String> {
        texts.iter().map(|text| bytes::unescape(text)).collect()
    };
    Ok(Case {
        name,
        clause: row.clause.clone(),
        kind: kind.clone(),
        bytes: bytes::unescape(text)?,
        expect: expect(&row.expect)?,
        reached: row.reached,
        after_good: row.after_good,
        then: row.then,
        forwarded: option(&row.forwarded)?,
        has: list(&row.has)?,
        lacks: list(&row.lacks)?,
        tunnel: option(&row.tunnel)?,
        keeps: row.keeps,
        reused: row.reused,
    })
}

/// `forward`, `close`, `400` or `400 label`.
fn expect(text: &str) -> Result<Expect, String> {
    match text {
        "forward" => return Ok(Expect::Forward),
        "close" => return Ok(Expect::Closed),
        _ => {}
    }
    let (status, label) = match text.split_once(' ') {
        Some((status, label)) => (status, Some(label)),
        None => (text, None),
    };
    let status = status.parse().map_err(|_| format!("`{text}` has no status"))?;
    let reason = label.map(|label| reason(label, status)).transpose()?;
    Ok(Expect::Refused { status, reason })
}

fn reason(label: &str, status: u16) -> Result<Reason, String> {
    let found = Reason::ALL.iter().find(|reason| reason.label() == label);
    match found {
        Some(reason) if reason.status() == status => Ok(*reason),
        Some(reason) => Err(format!("`{label}` is answered {}", reason.status())),
        None => Err(format!("there is no reason `{label}`")),
    }
}
