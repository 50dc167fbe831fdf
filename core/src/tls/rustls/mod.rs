//! Sessions by rustls and aws-lc-rs: TLS 1.3 with the suites, groups and signatures of
//! linkerd2-proxy. The one module of the core that uses std.
//!
//! The unbuffered API is used: records are opened in the buffer that they came in, and sealed right
//! into the connection's output.

extern crate std;

mod names;

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BytesMut};
pub use rustls;
use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as aws};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime as Seconds};
use rustls::server::{ParsedCertificate, UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{
    CertificateError, ClientConfig, CommonState, DigitallySignedStruct, Error, KeyLog,
    RootCertStore, ServerConfig, SignatureScheme,
};
use webpki::aws_lc_rs as algorithms;

use names::{failure_of, name_of, suite_name};

use super::SERVER_PROTOCOLS;
use super::san;
use super::session::{
    Expected, Failure, MAX_RECORD, Peer, Problem, Provider, RECORD_OVERHEAD, Session,
};
use crate::identity::Name;
use crate::time::UnixTime;

/// What sessions are made of.
pub struct Material {
    /// Our certificate in DER, and what leads from it to a trust anchor.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first of them.
    pub key: Arc<dyn SigningKey>,
    /// Trust anchors: peers' chains have to end at one of them.
    pub anchors: Vec<CertificateDer<'static>>,
    /// Where the secrets of sessions go, for whoever decrypts a capture. `None` but by explicit
    /// choice.
    pub key_log: Option<Arc<dyn KeyLog>>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("chain", &self.chain.len())
            .field("anchors", &self.anchors.len())
            .finish_non_exhaustive()
    }
}

/// Makes sessions with one key, one chain and one set of anchors.
#[derive(Clone)]
pub struct Rustls {
    server: Arc<ServerConfig>,
    /// Without a verifier that accepts anybody: each session brings its own.
    client: ClientConfig,
    anchors: Arc<RootCertStore>,
    clock: Arc<Clock>,
}

impl fmt::Debug for Rustls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rustls").field("anchors", &self.anchors.len()).finish_non_exhaustive()
    }
}

impl Rustls {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// There is no certificate or no anchor, one of them cannot be read, or the key is another's.
    pub fn new(material: Material) -> Result<Self, Problem> {
        let internal = |error: &dyn fmt::Display| problem(Failure::Internal, &error);
        let mut anchors = RootCertStore::empty();
        for anchor in material.anchors {
            anchors.add(anchor).map_err(|error| internal(&error))?;
        }
        let anchors = Arc::new(anchors);
        let own = CertifiedKey::new(material.chain, material.key);
        own.keys_match().map_err(|error| internal(&error))?;
        let own = Arc::new(SingleCertAndKey::from(own));
        let crypto = Arc::new(crypto());
        let clock = Arc::new(Clock::default());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&anchors), Arc::clone(&crypto))
                .allow_unauthenticated()
                .clear_root_hint_subjects()
                .build()
                .map_err(|error| internal(&error))?;
        let versions = &[&rustls::version::TLS13];
        let time = || Arc::clone(&clock) as Arc<dyn TimeProvider>;
        let mut server = ServerConfig::builder_with_details(Arc::clone(&crypto), time())
            .with_protocol_versions(versions)
            .map_err(|error| internal(&error))?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&own) as Arc<_>);
        server.alpn_protocols = SERVER_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        server.send_tls13_tickets = 0;
        let nobody = Arc::new(Verifier { anchors: Arc::clone(&anchors), expected: None });
        let mut client = ClientConfig::builder_with_details(crypto, time())
            .with_protocol_versions(versions)
            .map_err(|error| internal(&error))?
            .dangerous()
            .with_custom_certificate_verifier(nobody)
            .with_client_cert_resolver(own);
        client.resumption = rustls::client::Resumption::disabled();
        if let Some(key_log) = material.key_log {
            server.key_log = Arc::clone(&key_log);
            client.key_log = key_log;
        }
        Ok(Rustls { server: Arc::new(server), client, anchors, clock })
    }
}

impl Provider for Rustls {
    fn server(&self, now: UnixTime) -> Result<Box<dyn Session>, Problem> {
        self.clock.set(now);
        let made = UnbufferedServerConnection::new(Arc::clone(&self.server));
        let conn = made.map_err(|error| problem(Failure::Internal, &error))?;
        Ok(Box::new(RustlsSession::new(Conn::Server(conn), None)))
    }

    fn client(&self, now: UnixTime, expected: &Expected<'_>) -> Result<Box<dyn Session>, Problem> {
        self.clock.set(now);
        let mut config = self.client.clone();
        config.alpn_protocols = expected.protocols.iter().map(|name| name.to_vec()).collect();
        let identity = expected.identity.clone();
        let verifier = Verifier { anchors: Arc::clone(&self.anchors), expected: Some(identity) };
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
        let name = ServerName::try_from(expected.server_name.to_owned())
            .map_err(|error| problem(Failure::Internal, &error))?;
        let made = UnbufferedClientConnection::new(Arc::new(config), name);
        let conn = made.map_err(|error| problem(Failure::Internal, &error))?;
        let identity = Some(expected.identity.clone());
        Ok(Box::new(RustlsSession::new(Conn::Client(conn), identity)))
    }
}

/// The time by which certificates are judged: when the last session was made. None takes long.
#[derive(Debug, Default)]
struct Clock(AtomicU64);

impl Clock {
    fn set(&self, now: UnixTime) {
        self.0.store(now.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<Seconds> {
        let secs = self.0.load(Ordering::Relaxed);
        Some(Seconds::since_unix_epoch(core::time::Duration::from_secs(secs)))
    }
}

/// What linkerd2-proxy speaks, in its order.
fn crypto() -> CryptoProvider {
    use aws::{cipher_suite as suites, kx_group as groups};
    CryptoProvider {
        cipher_suites: [
            suites::TLS13_AES_128_GCM_SHA256,
            suites::TLS13_AES_256_GCM_SHA384,
            suites::TLS13_CHACHA20_POLY1305_SHA256,
        ]
        .into(),
        kx_groups: [groups::X25519MLKEM768, groups::X25519, groups::SECP256R1, groups::SECP384R1]
            .into(),
        signature_verification_algorithms: SIGNATURES,
        ..aws::default_provider()
    }
}

/// What chains and handshakes may be signed with.
static SIGNATURES: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        algorithms::ECDSA_P256_SHA256,
        algorithms::ECDSA_P256_SHA384,
        algorithms::ECDSA_P256_SHA512,
        algorithms::ECDSA_P384_SHA256,
        algorithms::ECDSA_P384_SHA384,
        algorithms::ECDSA_P384_SHA512,
        algorithms::ECDSA_P521_SHA256,
        algorithms::ECDSA_P521_SHA384,
        algorithms::ECDSA_P521_SHA512,
        algorithms::ED25519,
        algorithms::RSA_PKCS1_2048_8192_SHA256,
        algorithms::RSA_PKCS1_2048_8192_SHA384,
        algorithms::RSA_PKCS1_2048_8192_SHA512,
        algorithms::RSA_PKCS1_3072_8192_SHA384,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[algorithms::ECDSA_P256_SHA256]),
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[algorithms::ECDSA_P384_SHA384]),
        (SignatureScheme::ECDSA_NISTP521_SHA512, &[algorithms::ECDSA_P521_SHA512]),
        (SignatureScheme::ED25519, &[algorithms::ED25519]),
        // TLS 1.3 has no such handshake signatures (RFC 8446 §4.2.3), but says so of chains.
        (SignatureScheme::RSA_PKCS1_SHA512, &[algorithms::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[algorithms::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[algorithms::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// Verifies that a server's chain leads to an anchor and that its certificate names whom we mean.
#[derive(Debug)]
struct Verifier {
    anchors: Arc<RootCertStore>,
    expected: Option<Name>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: Seconds,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.anchors,
            intermediates,
            now,
            SIGNATURES.all,
        )?;
        let named = |expected: &Name| san::identities(leaf).any(|name| name == *expected);
        if self.expected.as_ref().is_some_and(named) {
            return Ok(ServerCertVerified::assertion());
        }
        let presented = san::identities(leaf).map(|name| name.to_string()).collect();
        let expected = server_name.to_owned();
        Err(CertificateError::NotValidForNameContext { expected, presented }.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &SIGNATURES)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

/// One session.
struct RustlsSession {
    conn: Conn,
    /// Received, and no complete record, or part of a handshake message. rustls remembers places in
    /// it: it is shown whenever rustls is asked anything.
    received: BytesMut,
    expected: Option<Name>,
    peer: Option<Peer>,
    closed: bool,
}

enum Conn {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What rustls wants next.
enum Step {
    /// To be asked again.
    More,
    /// Bytes, or something to seal.
    Blocked,
    Closed,
    Failed(Error),
}

impl RustlsSession {
    fn new(conn: Conn, expected: Option<Name>) -> Self {
        RustlsSession { conn, received: BytesMut::new(), expected, peer: None, closed: false }
    }

    /// Lets rustls go on as far as it can.
    fn drive(&mut self, plain: &mut BytesMut, out: &mut BytesMut) -> Result<(), Error> {
        loop {
            let received = &mut self.received[..];
            let (discard, step) = match &mut self.conn {
                Conn::Client(conn) => advance(conn.process_tls_records(received), plain, out),
                Conn::Server(conn) => advance(conn.process_tls_records(received), plain, out),
            };
            self.received.advance(discard);
            match step {
                Step::More => {}
                Step::Closed => self.closed = true,
                Step::Blocked => return Ok(()),
                Step::Failed(error) => return Err(error),
            }
        }
    }

    /// After a failure: the alert. Nothing is asked of rustls behind it: it would go on to read what
    /// comes behind the failure.
    fn say_why(&mut self, error: &Error, out: &mut BytesMut) {
        // The peer said it.
        let mut said = matches!(error, Error::AlertReceived(_));
        while !said {
            let start = out.len();
            let (received, mut nothing) = (&mut self.received[..], BytesMut::new());
            let (discard, step) = match &mut self.conn {
                Conn::Client(conn) => {
                    advance(conn.process_tls_records(received), &mut nothing, out)
                }
                Conn::Server(conn) => {
                    advance(conn.process_tls_records(received), &mut nothing, out)
                }
            };
            self.received.advance(discard);
            said = !matches!(step, Step::More) || is_alert(&out[start..]);
        }
    }

    fn common(&self) -> &CommonState {
        match &self.conn {
            Conn::Client(conn) => conn,
            Conn::Server(conn) => conn,
        }
    }

    /// What the handshake agreed on.
    fn found(&self) -> Peer {
        let common = self.common();
        let leaf = common.peer_certificates().and_then(|chain| chain.first());
        let identity = match &self.expected {
            // It is among its names; which comes first is nobody's business.
            Some(expected) => Some(expected.clone()),
            None => leaf.and_then(|leaf| san::identities(leaf).next()),
        };
        Peer {
            identity,
            protocol: common.alpn_protocol().map(Box::from),
            version: "TLSv1.3",
            group: common.negotiated_key_exchange_group().map_or("", |group| name_of(group.name())),
            suite: common.negotiated_cipher_suite().map_or("", |suite| suite_name(suite.suite())),
        }
    }

    fn explain(&self, error: Error) -> Problem {
        let failure = failure_of(&error);
        let detail = match (error, &self.expected) {
            (
                Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                    presented,
                    ..
                }),
                Some(expected),
            ) => match presented.as_slice() {
                [] => format!("expected {expected}, and it names nobody"),
                names => format!("expected {expected}, got {}", names.join(", ")),
            },
            (error, _) => error.to_string(),
        };
        Problem { failure, detail }
    }
}

/// Does what rustls wants, and says how much of what was received is done with.
fn advance<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    plain: &mut BytesMut,
    out: &mut BytesMut,
) -> (usize, Step) {
    let mut discard = status.discard;
    let state = match status.state {
        Ok(state) => state,
        Err(error) => return (discard, Step::Failed(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => loop {
            match traffic.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Step::Failed(error),
                None => break Step::More,
            }
        },
        ConnectionState::EncodeTlsData(mut data) => {
            // Encoded twice: nothing is left to do.
            let _ = put(out, 4096, |room| match data.encode(room) {
                Err(EncodeError::InsufficientSize(more)) => Err(Some(more)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
                Ok(written) => Ok(written),
            });
            Step::More
        }
        // Whatever is in the output is sent.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::More
        }
        ConnectionState::PeerClosed => Step::Closed,
        ConnectionState::ReadEarlyData(_) => Step::Failed(Error::HandshakeNotComplete),
        // Closed, blocked, or ready to seal.
        _ => Step::Blocked,
    };
    (discard, step)
}

impl Session for RustlsSession {
    fn open(
        &mut self,
        received: BytesMut,
        plain: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<(), Problem> {
        let borrowed = self.received.is_empty();
        if borrowed {
            self.received = received;
        } else {
            self.received.extend_from_slice(&received);
        }
        if self.peer.is_some() {
            plain.reserve(self.received.len());
        }
        let driven = self.drive(plain, out);
        if let Err(error) = driven {
            self.say_why(&error, out);
            return Err(self.explain(error));
        }
        if borrowed {
            // What is left outlives the read buffer.
            self.received = BytesMut::from(&self.received[..]);
        }
        if self.peer.is_none() && !self.common().is_handshaking() {
            self.peer = Some(self.found());
        }
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], out: &mut BytesMut) -> Result<(), Problem> {
        debug_assert!(plain.len() <= MAX_RECORD, "more than a record");
        self.write(Write::Data(plain), out)
    }

    fn close(&mut self, out: &mut BytesMut) {
        // A session that cannot even say goodbye is seen to be cut off.
        let _ = self.write(Write::Goodbye, out);
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn held(&self) -> usize {
        self.received.capacity()
    }

    fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }
}

/// What is to be sent.
#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    Goodbye,
}

impl RustlsSession {
    fn write(&mut self, what: Write<'_>, out: &mut BytesMut) -> Result<(), Problem> {
        loop {
            let received = &mut self.received[..];
            let (discard, written) = match &mut self.conn {
                Conn::Client(conn) => write(conn.process_tls_records(received), what, out),
                Conn::Server(conn) => write(conn.process_tls_records(received), what, out),
            };
            self.received.advance(discard);
            match written {
                Some(true) => return Ok(()),
                Some(false) => {}
                None => return Err(Failure::Internal.into()),
            }
        }
    }
}

/// Writes, if rustls is ready for that. False: not yet. `None`: never.
fn write<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    what: Write<'_>,
    out: &mut BytesMut,
) -> (usize, Option<bool>) {
    let UnbufferedStatus { discard, state } = status;
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
        let room = RECORD_OVERHEAD + if let Write::Data(plain) = what { plain.len() } else { 2 };
        let written = put(out, room, |room| {
            let written = match what {
                Write::Data(plain) => traffic.encrypt(plain, room),
                Write::Goodbye => traffic.queue_close_notify(room),
            };
            written.map_err(|error| match error {
                EncryptError::InsufficientSize(more) => Some(more),
                EncryptError::EncryptExhausted => None,
            })
        });
        return (discard, written.then_some(true));
    }
    // Everything was opened: there is no plaintext to lose.
    match advance(UnbufferedStatus { discard, state }, &mut BytesMut::new(), out) {
        (discard, Step::More) => (discard, Some(false)),
        (discard, _) => (discard, None),
    }
}

/// Lets `write` write at the end of `out`, where it finds `room` bytes, or as many as it then says it
/// needs. False if it writes nothing.
fn put(
    out: &mut BytesMut,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> bool {
    let start = out.len();
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return true;
            }
            Err(Some(InsufficientSizeError { required_size })) if required_size > room => {
                room = required_size;
            }
            Err(_) => {
                out.truncate(start);
                return false;
            }
        }
    }
}

impl fmt::Debug for RustlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustlsSession").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Is this record an alert, in plaintext or by its length?
fn is_alert(record: &[u8]) -> bool {
    matches!(record, [21, ..]) || matches!(record, [23, ..] if record.len() == 2 + RECORD_OVERHEAD)
}

fn problem(failure: Failure, detail: &dyn fmt::Display) -> Problem {
    Problem { failure, detail: detail.to_string() }
}
