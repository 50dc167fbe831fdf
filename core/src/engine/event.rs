//! Kinds of events: what the reports, tables and limits of whoever hears them go by.

use super::contract::Event;

/// Declares [`EventKind`] as a table: variant, label and whether a peer decides how often it happens.
macro_rules! kinds {
    ($($variant:ident = $label:literal, $peer:literal;)*) => {
        /// The kind of an [`Event`], of the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "see the events")]
        pub enum EventKind {
            $($variant,)*
        }

        impl EventKind {
            /// Every kind, in order: `ALL[kind as usize] == kind`.
            pub const ALL: [EventKind; [$($label),*].len()] = [$(EventKind::$variant),*];

            /// Its name in tables.
            pub const fn label(self) -> &'static str {
                match self { $(EventKind::$variant => $label,)* }
            }

            /// Does a peer decide how often it happens? Then the lines about it need a limit.
            pub const fn is_caused_by_a_peer(self) -> bool {
                match self { $(EventKind::$variant => $peer,)* }
            }
        }

        impl Event {
            /// What kind of event it is.
            pub const fn kind(&self) -> EventKind {
                match self { $(Event::$variant { .. } => EventKind::$variant,)* }
            }
        }
    };
}

kinds! {
    Refused = "refused", true;
    Closed = "closed", true;
    UnknownServerName = "unknown_server_name", true;
    Violation = "http2_violation", true;
    EndpointDown = "endpoint_down", false;
    EndpointUp = "endpoint_up", false;
    EndpointEjected = "endpoint_ejected", false;
    EjectionSpared = "ejection_spared", true;
    EndpointProbed = "endpoint_probed", false;
    EndpointReadmitted = "endpoint_readmitted", false;
    CheckFailed = "check_failed", false;
    CheckPassed = "check_passed", false;
    PanicEntered = "panic_entered", false;
    PanicLeft = "panic_left", false;
    FailfastEntered = "failfast_entered", false;
    FailfastLeft = "failfast_left", false;
    Retry = "retry", false;
    Mirror = "mirror", false;
    Decided = "decided", false;
    Placed = "placed", false;
    ResolveFailed = "resolve_failed", false;
    TlsEstablished = "tls_established", true;
    TlsFailed = "tls_failed", true;
    Certified = "certified", false;
    CertifyFailed = "certify_failed", false;
    Uncertified = "uncertified", false;
    Reloaded = "reloaded", false;
    Draining = "draining", false;
    Drained = "drained", false;
}
