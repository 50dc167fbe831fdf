//! Two proxies with sessions between them, and a client's session of our own with one of them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::BytesMut;

use super::rig::{INBOUND, Rig, addr, config};
use crate::config::{Allow, Config, Identity, InboundPort, Meshed};
use crate::engine::{ConnId, Input};
use crate::identity::{Name, Update};
use crate::time::UnixTime;
use crate::tls::null::Null;
use crate::tls::{Expected, Problem, Provider, Session};

/// When tests happen.
pub(super) const NOW: UnixTime = UnixTime::from_secs(1_000_000);
pub(super) const HOUR: u64 = 3600;

pub(super) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

/// A certificate for `own` that lasts an hour, from the anchor 1.
pub(super) fn update(own: &str) -> Update {
    update_of(own, Null::new(name(own), 1))
}

pub(super) fn update_of(own: &str, null: Null) -> Update {
    let not_after = UnixTime::from_secs(NOW.as_secs() + HOUR);
    Update { provider: Arc::new(null), name: name(own), not_before: NOW, not_after }
}

/// The proxy of a server: `web.ns`, whose port 8080 is open to `allow`.
pub(super) fn server(allow: &[&str]) -> Rig {
    let mut config = config();
    config.identity = Some(Identity::new(name("web.ns")));
    let allow = allow.iter().map(|text| Allow::parse(text).expect("a rule")).collect::<Vec<_>>();
    if !allow.is_empty() {
        config.inbound.push(InboundPort::new(8080, allow));
    }
    let mut rig = Rig::with(config);
    rig.input(Input::WallClock(NOW));
    rig.input(Input::Identity(Ok(update("web.ns"))));
    rig
}

/// The proxy of a client, `app.ns`, whose services are meshed at `10.0.0.*`. `port`: the app's, behind
/// a transport header.
pub(super) fn client(port: Option<u16>) -> Rig {
    let mut rig = Rig::with(client_config(port));
    rig.input(Input::WallClock(NOW));
    rig.input(Input::Identity(Ok(update("app.ns"))));
    rig
}

/// What it is told.
pub(super) fn client_config(port: Option<u16>) -> Config {
    let mut config = config();
    config.identity = Some(Identity::new(name("app.ns")));
    for service in &mut config.services {
        for endpoint in &mut service.endpoints {
            endpoint.mesh = Some(Meshed::new(name("web.ns"), port));
        }
    }
    config
}

/// A connection from the outbound proxy to the inbound one.
pub(super) struct Link {
    pub(super) up: ConnId,
    pub(super) down: ConnId,
}

/// Makes the connection that `from` asks for.
pub(super) fn link(from: &mut Rig, to: &mut Rig, original_dst: Option<&str>) -> Link {
    let up = from.connect();
    let down = to.accept_to(INBOUND, original_dst);
    Link { up, down }
}

/// Carries what either wrote to the other, `cut` bytes at a time, until neither writes any more. What
/// crossed, in both directions.
pub(super) fn carry(from: &mut Rig, to: &mut Rig, link: &Link, cut: usize) -> [Vec<u8>; 2] {
    let mut crossed = [Vec::new(), Vec::new()];
    loop {
        let (there, back) = (from.taken(link.up), to.taken(link.down));
        if there.is_empty() && back.is_empty() {
            return crossed;
        }
        there.chunks(cut).for_each(|piece| to.receive(link.down, piece));
        back.chunks(cut).for_each(|piece| from.receive(link.up, piece));
        crossed[0].extend(there);
        crossed[1].extend(back);
    }
}

/// A client with a session of its own.
pub(super) struct Peer {
    pub(super) conn: ConnId,
    pub(super) session: Box<dyn Session>,
    pub(super) plain: BytesMut,
}

impl Peer {
    /// Connects to the inbound listener, asks for `server_name` and says hello.
    pub(super) fn dial(
        rig: &mut Rig,
        null: &Null,
        protocols: &[&[u8]],
        original_dst: Option<&str>,
    ) -> Self {
        let identity = name("web.ns");
        let expected = Expected { identity: &identity, server_name: "web.ns", protocols };
        let mut session = null.client(NOW, &expected).expect("a session");
        let conn = rig.accept_to(INBOUND, original_dst);
        let (mut plain, mut out) = (BytesMut::new(), BytesMut::new());
        session.open(BytesMut::new(), &mut plain, &mut out).expect("it begins");
        rig.receive(conn, &out);
        Peer { conn, session, plain }
    }

    /// Takes what the proxy wrote and answers it.
    pub(super) fn turn(&mut self, rig: &mut Rig) -> Result<(), Problem> {
        let data = BytesMut::from(&rig.taken(self.conn)[..]);
        let mut out = BytesMut::new();
        let opened = self.session.open(data, &mut self.plain, &mut out);
        if !out.is_empty() {
            rig.receive(self.conn, &out);
        }
        opened
    }

    /// A complete handshake.
    pub(super) fn shake(rig: &mut Rig, null: &Null, protocols: &[&[u8]]) -> Self {
        let mut peer = Peer::dial(rig, null, protocols, None);
        peer.turn(rig).expect("a handshake");
        peer.turn(rig).expect("nothing is wrong");
        assert!(peer.session.peer().is_some());
        peer
    }

    pub(super) fn send(&mut self, rig: &mut Rig, text: &str) {
        let mut out = BytesMut::new();
        self.session.seal(text.as_bytes(), &mut out).expect("a session");
        rig.receive(self.conn, &out);
    }

    pub(super) fn goodbye(&mut self, rig: &mut Rig) {
        let mut out = BytesMut::new();
        self.session.close(&mut out);
        rig.receive(self.conn, &out);
    }

    /// What it was told so far.
    pub(super) fn read(&mut self, rig: &mut Rig) -> String {
        self.turn(rig).expect("records");
        String::from_utf8(self.plain.split().to_vec()).expect("text")
    }
}

/// Whoever connects, and is nobody in particular.
pub(super) fn somebody(own: &str) -> Null {
    Null::new(name(own), 1)
}

/// One that shows no certificate.
pub(super) fn nobody() -> Null {
    Null { client: None, ..somebody("nobody") }
}

pub(super) fn app() -> core::net::SocketAddr {
    addr("127.0.0.1:8080")
}
