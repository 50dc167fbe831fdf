//! Methods (RFC 9110 §9). Case-sensitive, as the RFC wants.

/// May a request with this method be sent again when nobody knows whether it was acted on
/// (RFC 9110 §9.2.2)? True for the methods that the IANA registry lists as idempotent.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(
        method,
        b"GET"
            | b"HEAD"
            | b"OPTIONS"
            | b"TRACE"
            | b"PUT"
            | b"DELETE"
            | b"ACL"
            | b"BASELINE-CONTROL"
            | b"BIND"
            | b"CHECKIN"
            | b"CHECKOUT"
            | b"COPY"
            | b"LABEL"
            | b"LINK"
            | b"MERGE"
            | b"MKACTIVITY"
            | b"MKCALENDAR"
            | b"MKCOL"
            | b"MKREDIRECTREF"
            | b"MKWORKSPACE"
            | b"MOVE"
            | b"ORDERPATCH"
            | b"PROPFIND"
            | b"PROPPATCH"
            | b"QUERY"
            | b"REBIND"
            | b"REPORT"
            | b"SEARCH"
            | b"UNBIND"
            | b"UNCHECKOUT"
            | b"UNLINK"
            | b"UPDATE"
            | b"UPDATEREDIRECTREF"
            | b"VERSION-CONTROL"
    )
}
