//! TLS at the edge of the engine.
//!
//! What a connection wants is told from its ClientHello alone ([`client_hello`]), which is read in
//! place, and decides what becomes of it ([`Decision`]): what is somebody else's is passed on with
//! every byte that it came with. Between proxies, a [`transport_header`] in front of a connection
//! says what it is for.
//!
//! The engine sees TLS through two traits of ours ([`session`]): a [`Provider`] makes a [`Session`]
//! for a connection, and a session turns records into plaintext and back. In production they are
//! rustls's (`rustls`, behind the feature of that name); in most tests and simulations [`null`]'s,
//! which has no cryptography, no randomness and no clock.

/// Declares what can be wrong with something as a table: variant, metric label, message.
macro_rules! faults {
    (
        $(#[$type_doc:meta])* $name:ident:
        $($(#[$doc:meta])* $variant:ident = $label:literal, $message:literal;)*
    ) => {
        $(#[$type_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Every one, in declaration order: `ALL[fault as usize] == fault`.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The label value in metrics: stable, lower case, `snake_case`.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// One sentence for people.
            pub const fn message(self) -> &'static str {
                match self { $($name::$variant => $message,)* }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.message())
            }
        }

        impl core::error::Error for $name {}
    };
}

pub mod client_hello;
mod decision;
mod name;
pub mod null;
#[cfg(feature = "rustls")]
pub mod rustls;
pub mod san;
pub mod session;
pub mod transport_header;

pub use client_hello::{ClientHello, HelloScanner, Malformed};
pub use decision::{Decision, Nameless};
pub use session::{Expected, Failure, Peer, Problem, Provider, Session, Side};
pub use transport_header::TransportHeader;

/// What a server agrees to, best first: HTTP inside is detected, whatever a client asked for.
pub const SERVER_PROTOCOLS: [&[u8]; 3] = [transport_header::PROTOCOL, b"h2", b"http/1.1"];
