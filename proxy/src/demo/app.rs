//! The apps behind Selvedge: small servers of HTTP/1.1 or gRPC, one of which crashes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::select;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::grpc;
use super::mesh::CLIENT;
use super::wire::{APP_FIELD, IDENTITY_FIELD, Wire, field, read_head};

/// Connections that the kernel holds for an app until it accepts them.
const BACKLOG: u32 = 128;

/// An app that listens, and answers every request with its name.
pub(super) struct App {
    pub(super) name: &'static str,
    pub(super) addr: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What the connections of an app have in common.
pub(super) struct Shared {
    pub(super) name: &'static str,
    /// How long it thinks about every request.
    pub(super) delay: Duration,
    wire: Wire,
    /// In HTTP/1.1.
    response: String,
    diary: Mutex<Diary>,
}

/// What happened to an app, and when.
#[derive(Clone, Debug, Default)]
pub(super) struct Diary {
    /// When each request was read.
    pub(super) received: Vec<Instant>,
    /// Of them: those that Selvedge says are the client's, which has proven who it is.
    pub(super) identified: u64,
    pub(super) crashed: Option<Instant>,
    pub(super) back: Option<Instant>,
}

/// Reads an app's diary while the app runs, and afterwards.
pub(super) struct DiaryReader(Arc<Shared>);

impl Diary {
    /// Notes a request, and whose it is.
    pub(super) fn receive(&mut self, identity: Option<&str>) {
        self.received.push(Instant::now());
        self.identified += u64::from(identity == Some(CLIENT));
    }
}

impl DiaryReader {
    /// What happened so far.
    pub(super) fn read(&self) -> Diary {
        self.0.diary().clone()
    }
}

impl App {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn bind(name: &'static str, delay: Duration, wire: Wire) -> io::Result<App> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let length = name.len() + 1;
        let response = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             {APP_FIELD}: {name}\r\n\r\n{name}\n"
        );
        let shared = Shared { name, delay, wire, response, diary: Mutex::default() };
        Ok(App { name, addr: listener.local_addr()?, listener, shared: Arc::new(shared) })
    }

    pub(super) fn diary(&self) -> DiaryReader {
        DiaryReader(Arc::clone(&self.shared))
    }

    /// Serves for ever.
    pub(super) async fn serve(self) {
        serve(self.listener, &self.shared, &Notify::new()).await;
    }

    /// Serves until `crash`, is gone for `outage`, and serves again at the same address.
    ///
    /// # Errors
    /// The address could not be had again.
    pub(super) async fn serve_and_crash(self, crash: &Notify, outage: Duration) -> io::Result<()> {
        serve(self.listener, &self.shared, crash).await;
        self.shared.diary().crashed = Some(Instant::now());
        // A socket that is bound and does not listen: connects are refused, and nobody else on this
        // machine gets the port.
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.addr)?;
        sleep(outage).await;
        let listener = socket.listen(BACKLOG)?;
        self.shared.diary().back = Some(Instant::now());
        serve(listener, &self.shared, &Notify::new()).await;
        Ok(())
    }
}

impl Shared {
    /// Every entry is complete in itself, whoever panicked.
    pub(super) fn diary(&self) -> MutexGuard<'_, Diary> {
        self.diary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `crash`. Then, as when a process is killed: nobody listens any more, and every
/// connection is reset, idle or busy.
async fn serve(listener: TcpListener, shared: &Arc<Shared>, crash: &Notify) {
    let (kill, killed) = watch::channel(false);
    loop {
        select! {
            biased;
            () = crash.notified() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(connection(
                    stream,
                    Arc::clone(shared),
                    killed.clone(),
                ))),
                // That connection is gone, or there are no descriptors for it at this moment.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
        }
    }
    drop(listener);
    // Nobody to tell when there are no connections.
    let _ = kill.send(true);
}

async fn connection(stream: TcpStream, shared: Arc<Shared>, mut killed: watch::Receiver<bool>) {
    // An app closes a connection when it crashes, or when nobody is there any more: a reset.
    let _ = stream.set_zero_linger();
    let _ = stream.set_nodelay(true);
    select! {
        biased;
        Ok(_) = killed.wait_for(|killed| *killed) => {}
        // However it ends, the app has done its part.
        _ = answer(stream, &shared) => {}
    }
}

async fn answer(stream: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    match shared.wire {
        Wire::Http1 => answer_http1(stream, shared).await,
        Wire::Grpc => grpc::answer(stream, shared).await,
    }
}

/// Answers one request after the other.
async fn answer_http1(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1024);
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        // The client sends GETs: after the head comes the next one.
        shared.diary().receive(field(&buffer[..head], IDENTITY_FIELD));
        buffer.drain(..head);
        sleep(shared.delay).await;
        stream.write_all(shared.response.as_bytes()).await?;
    }
    Ok(())
}
