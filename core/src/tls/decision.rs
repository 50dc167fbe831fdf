//! What becomes of a connection that begins with a ClientHello.

use super::client_hello::{ClientHello, Malformed};

/// What becomes of a connection, told from its ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is for this proxy: the TLS session ends here.
    Terminate,
    /// It is for somebody else, by this name if it says one: every byte is passed on.
    Passthrough(Option<&'a str>),
    /// It names nobody, and that is not served: [`Nameless::Close`].
    Close,
    /// It is no TLS that anybody would understand: every byte is passed on, as of any protocol that
    /// is not known.
    Opaque(Malformed),
}

/// What becomes of TLS that names no server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nameless {
    /// It is passed on to where it wanted to go.
    #[default]
    Passthrough,
    /// It ends here, as if it had named us; where there is no identity to show, it is passed on.
    Terminate,
    /// It is closed.
    Close,
}

impl<'a> Decision<'a> {
    /// The decision about a hello. `own`: the server name that this side of the proxy goes by, if it
    /// has an identity to prove it with. Host names are compared without regard to case (RFC 6066
    /// §3).
    pub fn of(
        hello: Result<ClientHello<'a>, Malformed>,
        own: Option<&str>,
        nameless: Nameless,
    ) -> Self {
        match (hello.map(|hello| hello.server_name), own) {
            (Err(malformed), _) => Decision::Opaque(malformed),
            (Ok(Some(name)), Some(own)) if name.eq_ignore_ascii_case(own) => Decision::Terminate,
            (Ok(Some(name)), _) => Decision::Passthrough(Some(name)),
            (Ok(None), own) => match nameless {
                Nameless::Terminate if own.is_some() => Decision::Terminate,
                Nameless::Terminate | Nameless::Passthrough => Decision::Passthrough(None),
                Nameless::Close => Decision::Close,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::client_hello::Protocols;

    #[test]
    fn only_our_own_name_ends_here_unless_no_name_is_meant_to() {
        use Decision::{Close, Opaque, Passthrough, Terminate};
        let own = "web.ns.serviceaccount.identity.linkerd.cluster.local";
        let upper = own.to_ascii_uppercase();
        let hello = |server_name| Ok(ClientHello { server_name, protocols: Protocols::default() });
        for nameless in [Nameless::Passthrough, Nameless::Terminate, Nameless::Close] {
            let decide = |hello, own| Decision::of(hello, own, nameless);
            assert_eq!(decide(hello(Some(own)), Some(own)), Terminate);
            assert_eq!(decide(hello(Some(&upper)), Some(own)), Terminate);
            assert_eq!(decide(hello(Some(own)), None), Passthrough(Some(own)));
            let longer = "a.web.ns.serviceaccount.identity.linkerd.cluster.local";
            for other in ["web.example", longer, &own[1..], "local"] {
                assert_eq!(decide(hello(Some(other)), Some(own)), Passthrough(Some(other)));
            }
            let malformed = Malformed::Trailing;
            assert_eq!(decide(Err(malformed), Some(own)), Opaque(malformed));
        }
        for (nameless, with_identity, without) in [
            (Nameless::Passthrough, Passthrough(None), Passthrough(None)),
            (Nameless::Terminate, Terminate, Passthrough(None)),
            (Nameless::Close, Close, Close),
        ] {
            assert_eq!(Decision::of(hello(None), Some(own), nameless), with_identity);
            assert_eq!(Decision::of(hello(None), None, nameless), without);
        }
    }
}
