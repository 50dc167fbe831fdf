//! TLS sessions against each other: whatever is sealed comes out as it went in, in whatever pieces it
//! crosses, or it is noticed.

pub mod certificates;
pub mod pair;

use std::sync::LazyLock;

use selvedge_core::identity::Name;
use selvedge_core::time::UnixTime;
use selvedge_core::tls::Provider;
use selvedge_core::tls::null::Null;
use selvedge_core::tls::rustls::Rustls;

use crate::choose::{Bytes, Choose};
use certificates::{Authority, Subject};

/// When it is.
pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The two ends of a session.
pub const CLIENT: &str = "app.ns.serviceaccount.identity.linkerd.cluster.local";
/// See [`CLIENT`].
pub const SERVER: &str = "web.ns.serviceaccount.identity.linkerd.cluster.local";

/// Both ends by rustls, with certificates of one authority: made once, for that takes long.
pub static RUSTLS: LazyLock<[Rustls; 2]> = LazyLock::new(|| {
    let authority = Authority::new("root");
    [CLIENT, SERVER].map(|name| authority.provider(&Subject::named(name)))
});

/// The name of that text.
///
/// # Panics
/// If it is none.
pub fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// The script whose choices are these bytes: two sessions, what crosses between them, and what
/// happens to it. The first byte says whose sessions they are.
///
/// # Panics
/// If something does not hold.
pub fn tls_session(data: &[u8]) {
    let mut choose = Bytes::new(data);
    let held = if choose.flip() {
        let [client, server] = &*RUSTLS;
        pair::run(&mut choose, client, server)
    } else {
        let [client, server] = [CLIENT, SERVER].map(|own| Null::new(name(own), 1));
        pair::run(&mut choose, &client, &server)
    };
    if let Err(broken) = held {
        panic!("{broken}");
    }
}

/// A provider, whoever makes it.
pub type Of<'a> = &'a dyn Provider;
