//! The same bytes, read by rustls.

use std::fmt::Write;

use rustls::server::Acceptor;
use selvedge_core::tls::Malformed;

use super::{Reading, read};

/// What rustls reads; `None`: it is not complete.
///
/// # Errors
/// What it says is wrong, in the form of `Debug`.
pub fn theirs(bytes: &[u8]) -> Result<Option<Reading>, String> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    loop {
        let before = rest.len();
        // Its buffer may be full of what it cannot read.
        let taken = acceptor.read_tls(&mut rest).map_err(|error| format!("Io({error})"))?;
        match acceptor.accept() {
            Ok(None) if taken == 0 || before == rest.len() => return Ok(None),
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                let name = hello.server_name();
                let name = name.map(|name| name.strip_suffix('.').unwrap_or(name));
                return Ok(Some(Reading {
                    server_name: name.map(str::to_ascii_lowercase),
                    protocols: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                }));
            }
            Err((error, _)) => return Err(format!("{error:?}")),
        }
    }
}

/// Where we and rustls differ, and why that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What we say: the name of a reason, `refused` for any, or `read` or `incomplete`.
    pub ours: &'static str,
    /// What rustls says: how its error begins, or `read` or `incomplete`.
    pub theirs: &'static str,
    /// The clause, and why.
    pub why: &'static str,
}

const fn difference(ours: &'static str, theirs: &'static str, why: &'static str) -> Difference {
    Difference { ours, theirs, why }
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    difference("refused", "incomplete", {
        "we refuse with the first byte that cannot be, rustls when the message is complete"
    }),
    // ---- What rustls lets pass ----
    difference("record_length", "read", {
        "RFC 8446 §5.1: a fragment must not exceed 2^14 bytes; rustls has one limit for all records"
    }),
    difference("record_version", "read", {
        "RFC 8446 §5.1 has a server ignore it; nobody writes others, and other protocols do"
    }),
    difference("version", "read", {
        "RFC 8446 §4.1.2: legacy_version is 0x0303; rustls goes by supported_versions"
    }),
    difference("server_name_list", "read", {
        "RFC 6066 §3: names of every type begin with their length; rustls stops at an unknown type"
    }),
    // ---- What is for the server to judge: the hello says all the same where it goes ----
    difference("read", "InvalidMessage(DuplicateExtension(", {
        "RFC 8446 §4.2, of extensions that do not route"
    }),
    difference("read", "InvalidMessage(", "what is wrong is in an extension that does not route"),
    difference("read", "PeerIncompatible(SignatureAlgorithmsExtensionRequired)", {
        "RFC 8446 §4.2.3: TLS 1.1 and older have none"
    }),
    difference("read", "PeerIncompatible(NullCompressionRequired)", "RFC 8446 §4.1.2"),
    // ---- Names ----
    difference("read", "PeerMisbehaved(ServerNameMustContainOneHostName)", {
        "RFC 6066 §3 lets names of other types stand alone; and names that are no host names by \
         RFC 1123 §2.1, with labels that begin or end in hyphens or a last one of digits, are in use"
    }),
];

/// Do we and rustls agree?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Both read the same, both wait for more, or both refuse.
    Yes,
    /// We differ as the list says.
    Listed(&'static Difference),
    /// We differ otherwise.
    No(String),
}

/// Reads `bytes` with both.
pub fn compare(bytes: &[u8]) -> Agreement {
    let (ours, theirs) = (read(bytes), theirs(bytes));
    if ours.is_err() && theirs.is_err() || ours.as_ref().ok() == theirs.as_ref().ok() {
        return Agreement::Yes;
    }
    let our_name = name(&ours, |malformed| Malformed::label(*malformed));
    let their_name = name(&theirs, |error| error);
    // What is wrong with an extension that we read is never a matter of taste.
    let routes = ["ServerName", "ProtocolName", "Extension(0)", "Extension(16)"];
    let routes =
        routes.iter().any(|name| their_name.starts_with("Inv") && their_name.contains(name));
    let listed = |difference: &&Difference| {
        (difference.ours == our_name || difference.ours == "refused" && ours.is_err())
            && their_name.starts_with(difference.theirs)
            && !routes
    };
    if let Some(difference) = DIFFERENCES.iter().find(listed) {
        return Agreement::Listed(difference);
    }
    let mut problem =
        format!("{our_name} / {their_name}\nours: {ours:?}\ntheirs: {theirs:?}\nbytes: ");
    for byte in bytes {
        let _ = write!(problem, "{byte:02x}");
    }
    Agreement::No(problem)
}

fn name<'a, E>(
    reading: &'a Result<Option<Reading>, E>,
    error: impl Fn(&'a E) -> &'a str,
) -> &'a str {
    match reading {
        Ok(Some(_)) => "read",
        Ok(None) => "incomplete",
        Err(reason) => error(reason),
    }
}
