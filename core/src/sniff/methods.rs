//! The method names that IANA knows.

/// Whether `method` is in the IANA HTTP Method Registry (RFC 9110 §16.1), in the spelling of the
/// registry: methods are case-sensitive (RFC 9110 §9.1).
///
/// `*` is registered only so that nobody uses it as a name, and is left out: it also begins every
/// Redis command. `PRI` is in: that it is reserved for the HTTP/2 preface (RFC 9113 §3.4) is for the
/// caller to know.
pub(crate) fn is_registered(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET"
            | b"PUT"
            | b"ACL"
            | b"PRI"
            | b"POST"
            | b"HEAD"
            | b"BIND"
            | b"COPY"
            | b"LINK"
            | b"LOCK"
            | b"MOVE"
            | b"PATCH"
            | b"QUERY"
            | b"TRACE"
            | b"LABEL"
            | b"MERGE"
            | b"MKCOL"
            | b"DELETE"
            | b"REBIND"
            | b"REPORT"
            | b"SEARCH"
            | b"UNBIND"
            | b"UNLINK"
            | b"UNLOCK"
            | b"UPDATE"
            | b"CONNECT"
            | b"OPTIONS"
            | b"CHECKIN"
            | b"CHECKOUT"
            | b"PROPFIND"
            | b"PROPPATCH"
            | b"MKACTIVITY"
            | b"MKCALENDAR"
            | b"ORDERPATCH"
            | b"UNCHECKOUT"
            | b"MKWORKSPACE"
            | b"MKREDIRECTREF"
            | b"VERSION-CONTROL"
            | b"BASELINE-CONTROL"
            | b"UPDATEREDIRECTREF"
    )
}
