//! The client: a fixed number of users, each with a keep-alive connection or all on one channel, and a
//! fixed pace.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::grpc::{self, Channel};
use super::wire::{APP_FIELD, Wire, read_head, read_to_length};

/// Requests that are under way at most.
pub(super) const USERS: usize = 16;
/// Longer than any answer takes, failed ones included: the client never hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What Selvedge answers when an endpoint is lost under a request.
const BAD_GATEWAY: u16 = 502;
/// Fields of a response; Selvedge and the apps send far fewer.
const MAX_FIELDS: usize = 32;

/// What is asked, of whom, and how fast.
pub(super) struct Load {
    /// Where Selvedge listens.
    pub(super) proxy: SocketAddr,
    pub(super) wire: Wire,
    /// A GET that Selvedge could not have answered is sent a second time.
    pub(super) insists: bool,
    /// What the client asks for.
    pub(super) authority: &'static str,
    pub(super) requests: u64,
    /// Over which the requests are spread evenly. It takes longer when the answers do.
    pub(super) duration: Duration,
    /// Told as the request in the middle is sent.
    pub(super) half_way: Arc<Notify>,
    /// Advanced with every answer.
    pub(super) progress: ProgressBar,
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The number of its request, from 0, in the order in which they were sent.
    pub(super) sequence: u64,
    /// Of HTTP or of gRPC; `None`: there was none.
    pub(super) status: Option<u16>,
    /// It was sent a second time, since the first was answered `UNAVAILABLE`, or 502.
    pub(super) again: bool,
    /// The app that gave it; `None` if it was Selvedge's own.
    pub(super) app: Option<String>,
    /// From the first byte of the request to the last of the response.
    pub(super) latency: Duration,
}

impl Load {
    /// Sends all requests and returns the answers, in no order.
    pub(super) async fn run(self) -> Vec<Answer> {
        let capacity = usize::try_from(self.requests).unwrap_or(0);
        let shared = Arc::new(Shared {
            request: format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.authority),
            channel: Channel::new(self.proxy, self.authority),
            load: self,
            start: Instant::now(),
            next: AtomicU64::new(0),
        });
        let mut users = JoinSet::new();
        for _ in 0..USERS {
            users.spawn(user(Arc::clone(&shared)));
        }
        let mut answers = Vec::with_capacity(capacity);
        for share in users.join_all().await {
            answers.extend(share);
        }
        answers
    }
}

struct Shared {
    load: Load,
    request: String,
    channel: Channel,
    start: Instant,
    /// The sequence number of the next request.
    next: AtomicU64,
}

impl Shared {
    fn send_at(&self, sequence: u64) -> Instant {
        let part = sequence as f64 / self.load.requests as f64;
        self.start + self.load.duration.mul_f64(part)
    }
}

/// One user: takes the next request when it has the answer to the last one.
async fn user(shared: Arc<Shared>) -> Vec<Answer> {
    let (load, mut connection, mut answers) = (&shared.load, None, Vec::new());
    loop {
        let sequence = shared.next.fetch_add(1, Ordering::Relaxed);
        if sequence >= load.requests {
            return answers;
        }
        sleep_until(shared.send_at(sequence).into()).await;
        if sequence == load.requests / 2 {
            load.half_way.notify_one();
        }
        let sent = Instant::now();
        let mut again = false;
        let answer = match load.wire {
            Wire::Http1 => timeout(PATIENCE, get(&mut connection, &shared, &mut again)).await,
            Wire::Grpc => timeout(PATIENCE, call(&shared.channel, &mut again)).await,
        };
        let answer = answer.ok().and_then(Result::ok);
        let (status, app) = answer.map_or((None, None), |(status, app)| (Some(status), app));
        answers.push(Answer { sequence, status, again, app, latency: sent.elapsed() });
        load.progress.inc(1);
    }
}

/// One GET, and a second if the first was lost with a connection that carried others too: it could
/// have done no harm twice (RFC 9110 §9.2.2), but whether it did anything nobody can know.
async fn get(
    connection: &mut Option<Connection>,
    shared: &Shared,
    again: &mut bool,
) -> io::Result<(u16, Option<String>)> {
    let answer = exchange(connection, shared).await?;
    if !shared.load.insists || answer != (BAD_GATEWAY, None) {
        return Ok(answer);
    }
    *again = true;
    exchange(connection, shared).await
}

/// One call, and a second if the first was answered `UNAVAILABLE`: the least that a retry policy of a
/// gRPC client does (gRFC A6). Selvedge cannot know whether a call that an app took with it into its
/// crash may be made twice; the client can.
async fn call(channel: &Channel, again: &mut bool) -> io::Result<(u16, Option<String>)> {
    let answer = channel.call().await?;
    if answer.0 != grpc::UNAVAILABLE {
        return Ok(answer);
    }
    *again = true;
    channel.call().await
}

/// A keep-alive connection to Selvedge.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(proxy: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(1024) })
    }
}

/// One request and its response, over the connection there is or a new one. It is sent once: what
/// fails is counted, not tried again, and leaves no connection behind.
async fn exchange(
    connection: &mut Option<Connection>,
    shared: &Shared,
) -> io::Result<(u16, Option<String>)> {
    let mut used = match connection.take() {
        Some(open) => open,
        None => Connection::open(shared.load.proxy).await?,
    };
    let Connection { stream, buffer } = &mut used;
    stream.write_all(shared.request.as_bytes()).await?;
    let end = read_head(stream, buffer).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = Head::parse(&buffer[..end])?;
    read_to_length(stream, buffer, end + head.length).await?;
    buffer.drain(..end + head.length);
    if !head.close {
        *connection = Some(used);
    }
    Ok((head.status, head.app))
}

/// What the client wants to know of a response.
struct Head {
    status: u16,
    length: usize,
    close: bool,
    app: Option<String>,
}

impl Head {
    fn parse(bytes: &[u8]) -> io::Result<Head> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(bytes).map_err(io::Error::other)?;
        let field = |name: &str| {
            let field = response.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name));
            field.and_then(|field| str::from_utf8(field.value).ok())
        };
        let length = field("content-length").and_then(|value| value.parse().ok());
        Ok(Head {
            status: response.code.ok_or(io::ErrorKind::InvalidData)?,
            length: length.ok_or(io::ErrorKind::InvalidData)?,
            close: field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")),
            app: field(APP_FIELD).map(str::to_owned),
        })
    }
}
