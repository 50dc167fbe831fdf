//! TLS at the edge of the engine.
//!
//! What a connection wants is told from its ClientHello alone ([`client_hello`]), which is read in
//! place: a hello that is somebody else's is passed on with every byte that it came with. Between
//! proxies, a [`transport_header`] in front of a connection says what it is for.

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
mod name;
pub mod transport_header;

pub use client_hello::{ClientHello, HelloScanner, Malformed};
pub use transport_header::TransportHeader;
