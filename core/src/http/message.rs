//! Messages and what their heads mean, whatever version they came in.

use super::facts::is_upgrade;
use super::field::Known;
use super::grammar::list;
use super::head::{RequestHead, ResponseHead, Version};

/// How the body of a message is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes; may be 0.
    Length(u64),
    /// Chunks (RFC 9112 §7.1).
    Chunked,
    /// Everything until the connection closes. Responses only.
    UntilClose,
}

/// The four forms of a request target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `host:port`, of CONNECT.
    Authority,
    /// `*`, of OPTIONS.
    Asterisk,
}

/// A request head and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Method, target, version, fields.
    pub head: RequestHead<'a>,
    /// The form of the target.
    pub form: TargetForm,
    /// Who is asked: the authority of the target, else Host. `None` if there is no Host (HTTP/1.0)
    /// or it is empty. Valid, but as spelled: see [`authority::normalize`](super::authority::normalize).
    pub authority: Option<&'a [u8]>,
    /// The target in origin-form: of an absolute target its path and query (`/` if it has neither;
    /// `*` for OPTIONS; it begins with `?` if there is a query but no path, and
    /// [`encode_request`](crate::http1::encode_request) supplies the `/`), else the target itself.
    pub path: &'a [u8],
    /// How the body is delimited; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Does the client want the connection to stay open (RFC 9112 §9.3)?
    pub keep_alive: bool,
    /// Does it wait for a 100 before it sends the body (RFC 9110 §10.1.1)? HTTP/1.1 only.
    pub expect_continue: bool,
    /// Does it offer to speak something other than HTTP (RFC 9110 §7.8)? `h2c` does not count, and
    /// neither does HTTP/1.0.
    pub upgrade: bool,
    /// Does it accept trailers (RFC 9110 §10.1.4)? HTTP/1.1 only.
    pub te_trailers: bool,
    /// Is it gRPC, by its Content-Type?
    pub grpc: bool,
    /// HEAD: the response has no body.
    pub is_head: bool,
    /// CONNECT: a 2xx makes a tunnel.
    pub is_connect: bool,
    /// May it be sent again when nobody knows what became of it?
    pub idempotent: bool,
    /// What it was before a mesh proxy made it HTTP/2: `l5d-orig-proto`, which is read from and
    /// written to HTTP/2 only. If the target is absolute, that says so, too.
    pub origin: Option<Version>,
    /// Whom the app is told that it comes from: `l5d-client-id`, which is never read, and written to
    /// HTTP/2 only.
    pub client_id: Option<&'a [u8]>,
}

/// A response head and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Status, reason, version, fields.
    pub head: ResponseHead<'a>,
    /// How the body is delimited. [`Framing::None`] for 1xx, 204, 304, the answer to HEAD and a 2xx
    /// to CONNECT.
    pub framing: Framing,
    /// What Content-Length or Transfer-Encoding say about the body that is not sent: 304 and HEAD
    /// only, else [`Framing::None`].
    pub announced: Framing,
    /// May the connection be used again (RFC 9112 §9.3)? False for a 101 and a 2xx to CONNECT,
    /// whose connection becomes a tunnel, and for a 204 that announces a body: whether one follows
    /// is anyone's guess.
    pub keep_alive: bool,
    /// Does it name a protocol to switch to? A 101 must.
    pub upgrade: bool,
    /// Is it gRPC's, by its Content-Type?
    pub grpc: bool,
    /// gRPC's status, when it is in the head (a trailers-only response).
    pub grpc_status: Option<u16>,
    /// See [`Request::origin`].
    pub origin: Option<Version>,
}

impl<'a> Request<'a> {
    /// The protocol that it would rather speak: the first of those that count as an
    /// [`upgrade`](Request::upgrade).
    pub(crate) fn protocol(&self) -> Option<&'a [u8]> {
        let fields = self.head.fields;
        let offers = fields.spans.iter().filter(|span| span.known == Known::Upgrade);
        let mut protocols = offers.flat_map(|span| list(span.value(fields.buf)));
        protocols.find(|protocol| is_upgrade(protocol))
    }
}
