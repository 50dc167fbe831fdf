//! TLS with real certificates: sessions against each other, and two engines with sessions between
//! them.

use std::sync::Arc;

use bytes::BytesMut;
use selvedge_core::config::{
    Allow, Config, Endpoint, Identity, InboundPort, Listener, ListenerKind, Meshed, Service, Target,
};
use selvedge_core::engine::ConnId;
use selvedge_core::error::Reason;
use selvedge_core::identity::Update;
use selvedge_core::time::{Duration, UnixTime};
use selvedge_core::tls::null::Null;
use selvedge_core::tls::rustls::Rustls;
use selvedge_core::tls::rustls::rustls::pki_types::CertificateDer;
use selvedge_core::tls::{Expected, Failure, Peer, Problem, Provider, Session, san};
use selvedge_proptests::choose::{Choose, Seeded};
use selvedge_proptests::harness::{Harness, outbound};
use selvedge_proptests::tls::certificates::{Authority, Subject};
use selvedge_proptests::tls::{CLIENT, NOW, RUSTLS, SERVER, name, pair};

/// Half a million choices, with cryptography and without.
#[test]
fn what_is_sealed_comes_out_or_is_missed() {
    let [client, server] = &*RUSTLS;
    for seed in 0..60 {
        let held = pair::run(&mut Seeded::new(seed), client, server);
        assert_eq!(held, Ok(()), "rustls, seed {seed}");
    }
    let [client, server] = [CLIENT, SERVER].map(|own| Null::new(name(own), 1));
    for seed in 0..500 {
        let held = pair::run(&mut Seeded::new(seed), &client, &server);
        assert_eq!(held, Ok(()), "null, seed {seed}");
    }
}

/// The two ends of a handshake, or what either says is wrong.
type Ends = [Result<Peer, Problem>; 2];

fn shake(client: &dyn Provider, server: &dyn Provider, expected: &Expected<'_>) -> Ends {
    let client = client.client(NOW, expected).expect("a client");
    let server = server.server(NOW).expect("a server");
    let mut ends: [Box<dyn Session>; 2] = [client, server];
    let mut wires = [BytesMut::new(), BytesMut::new()];
    let mut problems = [None, None];
    for _ in 0..6 {
        for side in [0, 1] {
            let data = wires[side].split();
            let (mut plain, mut out) = (BytesMut::new(), BytesMut::new());
            if problems[side].is_none() {
                problems[side] = ends[side].open(data, &mut plain, &mut out).err();
                wires[1 - side].extend_from_slice(&out);
            }
        }
    }
    let end = |side: usize| match (&problems[side], ends[side].peer()) {
        (Some(problem), _) => Err(problem.clone()),
        (None, peer) => Ok(peer.cloned().unwrap_or_default()),
    };
    [end(0), end(1)]
}

fn failures(ends: &Ends) -> [Option<Failure>; 2] {
    ends.each_ref().map(|end| end.as_ref().err().map(|problem| problem.failure))
}

#[test]
fn speaks_what_linkerd_speaks() {
    let [client, server] = &*RUSTLS;
    let identity = name(SERVER);
    let expected = Expected { identity: &identity, server_name: SERVER, protocols: &[b"h2"] };
    let ends = shake(client, server, &expected);
    for (end, who) in ends.iter().zip([SERVER, CLIENT]) {
        let peer = end.as_ref().expect("a session");
        assert_eq!(peer.identity, Some(name(who)));
        assert_eq!((peer.version, peer.group), ("TLSv1.3", "X25519MLKEM768"));
        assert_eq!(peer.suite, "TLS_AES_128_GCM_SHA256");
        assert_eq!(peer.protocol.as_deref(), Some(&b"h2"[..]));
    }
    let expected = Expected { protocols: &[b"spdy/1"], ..expected };
    let ends = shake(client, server, &expected);
    assert_eq!(failures(&ends), [Some(Failure::Protocol); 2]);
}

/// What a server shows, and what a client that means [`SERVER`] makes of it.
#[test]
fn a_server_has_to_prove_whom_we_mean() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let named = |names: &[&str]| Subject {
        names: names.iter().map(|&name| name.to_owned()).collect(),
        ..Subject::named("")
    };
    let past = Subject { not_after: UnixTime::from_secs(NOW.as_secs() - 1), ..named(&[SERVER]) };
    let future = Subject { not_before: NOW + Duration::from_secs(2), ..named(&[SERVER]) };
    let client = ours.provider(&Subject::named(CLIENT));
    for (authority, subject, failure, detail) in [
        (&ours, named(&[SERVER]), None, ""),
        (&ours, named(&["a.example", SERVER]), None, ""),
        (&ours, named(&["spiffe://td/web", SERVER]), None, ""),
        (&theirs, named(&[SERVER]), Some(Failure::UnknownIssuer), "UnknownIssuer"),
        (&ours, past, Some(Failure::Expired), "expired"),
        (&ours, future, Some(Failure::NotYetValid), "not valid yet"),
        (&ours, named(&["a.example"]), Some(Failure::WrongIdentity), "got a.example"),
        (&ours, named(&[]), Some(Failure::WrongIdentity), "names nobody"),
        // No wildcards: it is an identity and no host.
        (
            &ours,
            named(&["*.ns.serviceaccount.identity.linkerd.cluster.local"]),
            Some(Failure::WrongIdentity),
            "",
        ),
    ] {
        let server = authority.provider_of(&subject, &[ours.anchor()]);
        let identity = name(SERVER);
        let expected = Expected { identity: &identity, server_name: SERVER, protocols: &[] };
        let ends = shake(&client, &server, &expected);
        let told = failure.map(|_| Failure::Alert);
        assert_eq!(failures(&ends), [failure, told], "{subject:?}");
        if let Err(problem) = &ends[0] {
            assert!(problem.to_string().contains(detail), "{problem}");
        }
    }
}

/// A SPIFFE ID is meant by another server name; neither stands in for the other.
#[test]
fn spiffe_ids_are_verified_as_they_are() {
    let authority = Authority::new("root");
    let id = "spiffe://root.linkerd.cluster.local/ns/web";
    let [uri, dns] = [id, SERVER].map(|name| authority.provider(&Subject::named(name)));
    let identity = name(id);
    let expected = Expected { identity: &identity, server_name: SERVER, protocols: &[] };
    let ends = shake(&dns, &uri, &expected);
    assert_eq!(failures(&ends), [None, None]);
    // Its server name is right and its identity is not.
    let ends = shake(&uri, &dns, &expected);
    assert_eq!(failures(&ends), [Some(Failure::WrongIdentity), Some(Failure::Alert)]);
    let ends = shake(&uri, &dns, &Expected { identity: &name(SERVER), ..expected });
    assert_eq!(ends[1].as_ref().expect("a session").identity, Some(identity));
}

#[test]
fn a_client_may_be_nobody_but_not_a_liar() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let server = ours.provider(&Subject::named(SERVER));
    let identity = name(SERVER);
    let expected = Expected { identity: &identity, server_name: SERVER, protocols: &[] };
    let past = UnixTime::from_secs(NOW.as_secs() - 1);
    for (client, failure) in [
        (theirs.provider_of(&Subject::named(CLIENT), &[ours.anchor()]), Failure::UnknownIssuer),
        (ours.provider(&Subject { not_after: past, ..Subject::named(CLIENT) }), Failure::Expired),
    ] {
        let ends = shake(&client, &server, &expected);
        assert_eq!(failures(&ends), [Some(Failure::Alert), Some(failure)]);
    }
    // The first name that is one counts.
    for (names, who) in [
        (&["spiffe://td/a", "b.ns"][..], Some("spiffe://td/a")),
        (&["b.ns", "spiffe://td/a"][..], Some("b.ns")),
        (&["*.wild", "b.ns"][..], Some("b.ns")),
        (&[][..], None),
    ] {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let client = ours.provider(&Subject { names, ..Subject::named("") });
        let ends = shake(&client, &server, &expected);
        assert_eq!(ends[1].as_ref().expect("a session").identity, who.map(name));
    }
}

#[test]
fn names_are_read_in_their_order_and_nonsense_names_nobody() {
    let anchor: CertificateDer<'static> = Authority::new("root").anchor();
    assert_eq!(san::identities(&anchor).count(), 0);
    for cut in 0..anchor.len() {
        assert_eq!(san::identities(&anchor[..cut]).count(), 0);
    }
}

// ---- Two engines ----

fn update(own: &str, provider: Rustls) -> Update {
    let not_after = NOW + Duration::from_hours(24);
    Update { provider: Arc::new(provider), name: name(own), not_before: NOW, not_after }
}

/// A client's proxy, and a server's, whose app is open to `allow`.
fn proxies(port: Option<u16>, allow: &str, own: Rustls, theirs: Rustls) -> [Harness; 2] {
    let endpoint = Endpoint {
        target: Target::Addr(([10, 0, 0, 1], 4143).into()),
        weight: 1,
        mesh: Some(Meshed::new(name(SERVER), port)),
        zone: None,
    };
    let service =
        Service { name: "web.example:80".into(), endpoints: vec![endpoint], ..Service::default() };
    let mut out = Harness::new(Arc::new(Config {
        listeners: vec![outbound()],
        identity: Some(Identity::new(name(CLIENT))),
        services: vec![service],
        ..Config::default()
    }));
    let listener = Listener { addr: ([0, 0, 0, 0], 4143).into(), kind: ListenerKind::Inbound };
    let allow = vec![Allow::parse(allow).expect("a rule")];
    let mut inn = Harness::new(Arc::new(Config {
        listeners: vec![listener],
        identity: Some(Identity::new(name(SERVER))),
        app: Some(([127, 0, 0, 1], 8080).into()),
        inbound: vec![InboundPort::new(8080, allow)],
        ..Config::default()
    }));
    out.identify(NOW, update(CLIENT, own));
    inn.identify(NOW, update(SERVER, theirs));
    [out, inn]
}

/// Carries bytes between them in pieces until there are none.
fn carry(
    choose: &mut dyn Choose,
    proxies: &mut [Harness; 2],
    conns: [ConnId; 2],
    crossed: &mut Vec<u8>,
) {
    loop {
        let mut idle = true;
        for side in [0, 1] {
            let bytes = proxies[side].take(conns[side]);
            idle &= bytes.is_empty();
            crossed.extend_from_slice(&bytes);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let n = if choose.flip() { rest.len() } else { choose.within(1, rest.len()) };
                proxies[1 - side].send(conns[1 - side], &rest[..n]);
                rest = &rest[n..];
            }
        }
        if idle {
            return;
        }
    }
}

#[test]
fn bodies_cross_two_proxies_as_they_are_and_unreadable() {
    let [client, server] = &*RUSTLS;
    for seed in 0..12 {
        let choose = &mut Seeded::new(seed);
        let port = [None, Some(8080)][choose.below(2)];
        let mut proxies = proxies(port, CLIENT, client.clone(), server.clone());
        let down = proxies[0].accept(0);
        let n = [0, 10, 3000, 200_000][choose.below(4)];
        let body: Vec<u8> = (0..n).map(|at| b"the quick brown fox "[at % 20]).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: {n}\r\n\r\n");
        proxies[0].send(down, head.as_bytes());
        let up = proxies[0].connected()[0];
        let near = proxies[1].accept(0);
        let mut crossed = Vec::new();
        carry(choose, &mut proxies, [up, near], &mut crossed);
        for piece in body.chunks(20_000) {
            proxies[0].send(down, piece);
            carry(choose, &mut proxies, [up, near], &mut crossed);
        }
        let app = proxies[1].connected()[0];
        let request = proxies[1].take(app);
        assert!(request.ends_with(&body), "seed {seed}");
        let head = String::from_utf8_lossy(&request[..request.len() - n]).into_owned();
        assert!(head.contains(&format!("l5d-client-id: {CLIENT}\r\n")), "{head}");
        let answer =
            [&format!("HTTP/1.1 200 OK\r\ncontent-length: {n}\r\n\r\n").into_bytes()[..], &body]
                .concat();
        proxies[1].send(app, &answer);
        carry(choose, &mut proxies, [up, near], &mut crossed);
        assert_eq!(proxies[0].take(down), answer, "seed {seed}");
        for text in [&b"quick brown"[..], b"web.example", b"PRI * HTTP/2.0"] {
            assert!(!crossed.windows(text.len()).any(|window| window == text), "seed {seed}");
        }
        assert!(crossed.len() > 2 * n);
    }
}

#[test]
fn who_may_not_gets_403_through_both_proxies() {
    let [client, server] = &*RUSTLS;
    let mut proxies = proxies(None, "other.ns", client.clone(), server.clone());
    let down = proxies[0].accept(0);
    proxies[0].send(down, b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n");
    let conns = [proxies[0].connected()[0], proxies[1].accept(0)];
    carry(&mut Seeded::new(1), &mut proxies, conns, &mut Vec::new());
    assert!(proxies[0].take(down).starts_with(b"HTTP/1.1 403 "));
    assert!(proxies[1].connected().is_empty());
    let refused = &proxies[1].engine().snapshot().directions[1].refused;
    assert_eq!(refused[Reason::Unauthorized as usize], 1);
}

/// New certificates and anchors are for new sessions; what goes on goes on.
#[test]
fn certificates_and_anchors_are_replaced_in_mid_stream() {
    let [old, new] = ["old", "new"].map(Authority::new);
    let of = |authority: &Authority, own: &str, anchors: &[&Authority]| {
        let anchors: Vec<_> = anchors.iter().map(|authority| authority.anchor()).collect();
        authority.provider_of(&Subject::named(own), &anchors)
    };
    let mut proxies =
        proxies(Some(8080), CLIENT, of(&old, CLIENT, &[&old]), of(&old, SERVER, &[&old]));
    let choose = &mut Seeded::new(3);
    let down = proxies[0].accept(0);
    let get = b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n";
    proxies[0].send(down, get);
    let conns = [proxies[0].connected()[0], proxies[1].accept(0)];
    carry(choose, &mut proxies, conns, &mut Vec::new());
    let app = proxies[1].connected()[0];
    // The authority changes, as it must: both are believed, then the new one is used, then the old
    // one is not believed any more. The server is a step ahead of the client.
    let steps = [(&old, vec![&old, &new]), (&new, vec![&old, &new]), (&new, vec![&new])];
    for (authority, anchors) in steps {
        proxies[1].identify(NOW, update(SERVER, of(authority, SERVER, &anchors)));
        let half: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
        proxies[1].send(app, half);
        carry(choose, &mut proxies, conns, &mut Vec::new());
        proxies[0].identify(NOW, update(CLIENT, of(authority, CLIENT, &anchors)));
        proxies[1].send(app, b"k");
        carry(choose, &mut proxies, conns, &mut Vec::new());
        assert!(proxies[0].take(down).ends_with(b"\r\n\r\nok"));
        proxies[0].send(down, get);
        carry(choose, &mut proxies, conns, &mut Vec::new());
    }
    // A new connection is made with the new ones.
    let [out, inn] = &proxies;
    assert_eq!(out.engine().snapshot().directions[0].tls.handshakes, 1);
    assert_eq!(inn.engine().snapshot().identity.expect("one").certifications, 4);
}
