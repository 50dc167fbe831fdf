//! How much one poll does, told by sockets that are none.

use std::cell::RefCell;
use std::io::IoSlice;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Waker;
use std::time::Instant;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use selvedge_core::config::{
    Endpoint, Listener, ListenerKind, Protocol, Service, Target, Timeouts,
};
use socket2::SockRef;

use super::*;
use crate::{Background, Block, Read, Stream};

#[cfg(any(target_os = "linux", target_os = "android"))]
mod tunnel;

/// What the peers of a driver do, and what it did with them.
#[derive(Default)]
struct World {
    /// In the order in which they were accepted.
    clients: Vec<Speech>,
    /// Clients that have connected and were not accepted.
    coming: usize,
    /// On the connection to it that is asked first.
    endpoint: Speech,
    /// Connections to the endpoint are not made before somebody says so.
    holds_connects: bool,
    /// Who waits for something to happen.
    wakers: Vec<Waker>,
    /// Reads: whose, and how many bytes.
    reads: Vec<(usize, usize)>,
    connected: usize,
}

/// What somebody has to send: words, and then so many bytes of anything.
#[derive(Default)]
struct Speech {
    words: Vec<u8>,
    rest: usize,
}

impl Speech {
    /// As much as there is room for.
    fn fill(&mut self, room: &mut [u8]) -> usize {
        let words = self.words.len().min(room.len());
        let rest = self.rest.min(room.len() - words);
        room[..words].copy_from_slice(&self.words[..words]);
        self.words.drain(..words);
        self.rest -= rest;
        words + rest
    }
}

/// Only a hang takes longer.
const PATIENCE: Duration = Duration::from_mins(4);

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

fn world<T>(look: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(look)
}

struct Fake;

/// An end of a connection: a client's if it has a number. The socket only has its addresses.
struct FakeStream(TcpStream, Option<usize>);

impl AsFd for FakeStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for FakeStream {
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        world(|world| {
            if world.holds_connects {
                world.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            world.connected += 1;
            Poll::Ready(self.0.local_addr())
        })
    }

    fn poll_read(&mut self, block: &mut Block, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let room = block.room();
        world(|world| {
            let speech = match self.1 {
                Some(number) => &mut world.clients[number],
                None => &mut world.endpoint,
            };
            let length = speech.fill(room);
            if length < room.len() {
                world.wakers.push(cx.waker().clone());
            }
            if length == 0 {
                return Poll::Pending;
            }
            world.reads.extend(self.1.map(|number| (number, length)));
            Poll::Ready(Ok(Read { length, more: length == room.len() }))
        })
    }

    fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// As where there is no `splice`.
    fn poll_read_with(
        &mut self,
        _read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_write_with(
        &mut self,
        _write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        unreachable!("nothing is in a pipe")
    }
}

/// Waits for one that is `coming`: who has connected may not be there yet where the kernel is busy.
fn accept(listener: &TcpListener, coming: bool) -> io::Result<(TcpStream, SocketAddr)> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Err(error) if coming && error.kind() == io::ErrorKind::WouldBlock => {
                assert!(start.elapsed() < PATIENCE, "it does not come");
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

impl Runtime for Fake {
    type Stream = FakeStream;
    type Listener = TcpListener;
    type Timer = ();
    type Dns = TokioRuntimeProvider;

    fn stream(socket: TcpStream) -> io::Result<FakeStream> {
        Ok(FakeStream(socket, None))
    }

    fn listener(socket: TcpListener) -> io::Result<TcpListener> {
        Ok(socket)
    }

    fn poll_accept(
        listener: &TcpListener,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<(FakeStream, SocketAddr)>> {
        let coming = world(|world| world.coming > 0);
        match accept(listener, coming) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result.map(|(socket, peer)| {
                socket.set_nonblocking(true).unwrap();
                let number = world(|world| {
                    world.coming -= 1;
                    world.clients.push(Speech::default());
                    world.clients.len() - 1
                });
                (FakeStream(socket, Some(number)), peer)
            })),
        }
    }

    fn timer() {}

    fn poll_timer(_timer: &mut (), _at: Instant, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn dns(_background: &Background) -> TokioRuntimeProvider {
        TokioRuntimeProvider::default()
    }

    fn yield_now(_cx: &mut Context<'_>) {}

    fn unlimited<F: Future + Send>(worker: F) -> impl Future<Output = F::Output> + Send {
        worker
    }

    fn run(_worker: impl Future<Output = io::Result<()>> + 'static) -> io::Result<()> {
        unreachable!("it is polled by hand")
    }
}

/// A driver with one endpoint, and its clients.
struct Rig<R: Runtime = Fake> {
    driver: Driver<R>,
    addr: SocketAddr,
    clients: Vec<TcpStream>,
    /// Where it connects to.
    endpoint: TcpListener,
}

impl<R: Runtime<Listener = TcpListener>> Rig<R> {
    /// One that forwards opaque connections.
    fn opaque() -> Self {
        let name: Arc<str> = "forward".into();
        Rig::new(ListenerKind::Forward(Arc::clone(&name)), name, true)
    }

    fn new(kind: ListenerKind, name: Arc<str>, opaque: bool) -> Self {
        let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Addr(endpoint.local_addr().unwrap());
        let config = Config {
            listeners: vec![Listener { addr: "127.0.0.1:0".parse().unwrap(), kind }],
            services: vec![Service {
                name,
                endpoints: vec![Endpoint { target, weight: 1, mesh: None, zone: None }],
                opaque,
                protocol: Protocol::Http1,
                ..Service::default()
            }],
            // Nobody is late because a test gets no CPU for a while.
            timeouts: Timeouts {
                connect: PATIENCE,
                failfast: PATIENCE * 10,
                ..Timeouts::default()
            },
            ..Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (inbox, events) = (Arc::new(Inbox::default()), Box::new(|_| {}));
        let options = Options::default();
        let driver = Driver::new(Arc::new(config), vec![listener], options, inbox, events).unwrap();
        Rig { driver, addr, clients: Vec::new(), endpoint }
    }

    /// So many more clients.
    fn connect(&mut self, count: usize) {
        let addr = self.addr;
        self.clients.extend((0..count).map(|_| TcpStream::connect(addr).unwrap()));
        world(|world| world.coming += count);
        self.look_at_listeners();
    }

    fn rest(&mut self) {
        while self.poll() {}
    }

    fn look_at_listeners(&mut self) {
        for acceptor in &self.driver.acceptors {
            acceptor.source.queue(&mut self.driver.ready);
        }
    }

    /// One poll; whether it wants another at once.
    fn poll(&mut self) -> bool {
        assert!(self.driver.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let driver = &self.driver;
        !(driver.ready.is_empty() && driver.costly.is_empty() && driver.closing.is_empty())
    }
}

impl Rig {
    /// With opaque connections, up to where each waits for its client.
    fn with(clients: usize) -> Self {
        let mut rig = Rig::opaque();
        rig.connect(clients);
        rig.rest();
        assert_eq!(world(|world| (world.clients.len(), world.connected)), (clients, clients));
        rig
    }

    /// The reads of one poll.
    fn reads(&mut self) -> Vec<(usize, usize)> {
        world(|world| world.reads.clear());
        self.poll();
        world(|world| std::mem::take(&mut world.reads))
    }
}

fn send(client: usize, bytes: usize) {
    wake(|world| world.clients[client].rest = bytes);
}

/// The same for all of them.
fn all_send(bytes: usize) {
    wake(|world| world.clients.iter_mut().for_each(|client| client.rest = bytes));
}

/// Something happens that wakes all who wait.
fn wake(happen: impl FnOnce(&mut World)) {
    let wakers = world(|world| {
        happen(world);
        std::mem::take(&mut world.wakers)
    });
    wakers.into_iter().for_each(Waker::wake);
}

fn bytes(reads: &[(usize, usize)]) -> usize {
    reads.iter().map(|(_, length)| length).sum()
}

const MUCH: usize = 64 << 20;

/// The most that a poll reads while many have much to send: the last read may go beyond the bound.
const MOST: usize = BYTES_PER_POLL + BULK_BYTES_BESIDE_OTHERS + Limits::READ_BLOCK;

#[test]
fn many_that_begin_to_send_at_once_are_read_their_share() {
    let mut rig = Rig::with(VISITS_PER_POLL + 1);
    all_send(MUCH);
    // Woken last, and so read last.
    let small = VISITS_PER_POLL;
    world(|world| world.clients[small].rest = 5);
    let mut before = 0;
    for poll in 0.. {
        let reads = rig.reads();
        assert!(bytes(&reads) <= MOST, "{} bytes in poll {poll}", bytes(&reads));
        let Some(at) = reads.iter().position(|&(client, _)| client == small) else {
            before += bytes(&reads);
            continue;
        };
        before += bytes(&reads[..at]);
        break;
    }
    assert!(before <= MOST, "{before} bytes before it");
}

#[test]
fn few_are_read_whole_blocks() {
    let mut rig = Rig::with(4);
    all_send(MUCH);
    let reads = rig.reads();
    for client in 0..4 {
        let first = reads.iter().find(|(of, _)| *of == client);
        assert_eq!(first, Some(&(client, Limits::READ_BLOCK)));
    }
}

#[test]
fn messages_of_many_are_read_at_once() {
    let mut rig = Rig::with(VISITS_PER_POLL);
    all_send(LEAST_READ - 1);
    assert_eq!(rig.reads().len(), VISITS_PER_POLL, "one read each");
    assert!(!rig.poll());
}

#[test]
fn a_flow_is_read_less_at_once_while_another_asks() {
    let mut rig = Rig::with(2);
    send(0, MUCH);
    let flows = (0..10).map(|_| bytes(&rig.reads())).max();
    assert_eq!(flows, Some(Limits::BULK_BLOCK));
    for _ in 0..3 {
        send(1, 5);
        let reads = rig.reads();
        assert_eq!(reads[0], (1, 5), "first");
        let rest = bytes(&reads[1..]);
        assert!(0 < rest && rest <= BULK_BYTES_BESIDE_OTHERS, "{rest} bytes");
        // … and only then: it is read in large blocks again.
        assert!(bytes(&rig.reads()) > BULK_BYTES_BESIDE_OTHERS);
    }
}

#[test]
fn flows_are_read_less_at_once_when_another_asked_lately() {
    let flows = COSTLY_VISITS_PER_POLL;
    let mut rig = Rig::with(flows + 1);
    // Half a block: none is read in two pieces.
    let flow = Limits::READ_BLOCK / 2;
    let read = |rig: &mut Rig, others_until| {
        (0..flows).for_each(|nth| send(nth, flow));
        rig.driver.sockets.iter_mut().flatten().for_each(|socket| socket.bulk = true);
        rig.driver.others_until = others_until;
        let read = bytes(&rig.reads());
        rig.rest();
        read
    };
    assert_eq!(read(&mut rig, Time::ZERO), flows * flow);
    assert_eq!(read(&mut rig, Time::MAX), BULK_BYTES_BESIDE_OTHERS);
    rig.driver.sockets.iter_mut().flatten().for_each(|socket| socket.bulk = false);
    send(flows, 5);
    rig.reads();
    assert_eq!(rig.driver.others_until, rig.driver.now + LATELY);
}

#[test]
fn who_is_connected_goes_before_connections_that_are_made() {
    let mut rig = Rig::with(1);
    world(|world| world.holds_connects = true);
    let many = 5 * COSTLY_VISITS_PER_POLL;
    rig.connect(many);
    rig.rest();
    wake(|world| world.holds_connects = false);
    for poll in 1..=many / COSTLY_VISITS_PER_POLL {
        send(0, 5);
        assert_eq!(rig.reads(), [(0, 5)]);
        assert_eq!(world(|world| world.connected), 1 + poll * COSTLY_VISITS_PER_POLL);
    }
    rig.rest();
    assert_eq!(world(|world| world.connected), 1 + many);
}

/// After a pause of the process everything is due at once. Found by a scenario on a busy machine: a
/// connection that was made in time was given up.
#[test]
fn what_came_in_time_is_seen_before_what_is_too_late() {
    let many = 2 * VISITS_PER_POLL;
    let mut rig: Rig = Rig::opaque();
    world(|world| world.holds_connects = true);
    rig.connect(many);
    rig.rest();
    let (deadline, _) = rig.driver.engine.next_timeout().expect("connecting has a deadline");
    rig.driver.timer.put_forward(deadline);
    rig.driver.timer.source.queue(&mut rig.driver.ready);
    wake(|world| world.holds_connects = false);
    rig.rest();
    assert_eq!(world(|world| world.connected), many);
    assert_eq!(rig.driver.sockets.iter().flatten().count(), 2 * many);
    // Where nothing comes, the deadline holds.
    world(|world| world.holds_connects = true);
    rig.connect(1);
    rig.rest();
    let (deadline, _) = rig.driver.engine.next_timeout().expect("connecting has a deadline");
    rig.driver.timer.put_forward(deadline);
    rig.driver.timer.source.queue(&mut rig.driver.ready);
    rig.rest();
    assert_eq!(rig.driver.sockets.iter().flatten().count(), 2 * many + 1, "its client waits");
}

/// What may lie unsent in the kernel, of each connection.
fn unsent(rig: &Rig) -> Vec<u32> {
    let sockets = rig.driver.sockets.iter().flatten();
    sockets.map(|socket| SockRef::from(&socket.stream).tcp_notsent_lowat().unwrap()).collect()
}

#[test]
fn a_connection_that_many_share_holds_little_unsent() {
    let mut rig: Rig = Rig::new(ListenerKind::Outbound, "web.test:80".into(), false);
    rig.connect(1);
    rig.rest();
    let before = unsent(&rig);
    // The preface, SETTINGS with a window of 1 MiB, the same for the connection, and a request.
    let mut words = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    words.extend(b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x10\0\0\0\0\x04\x08\0\0\0\0\0\0\x10\0\0");
    words.extend(b"\0\0\x0d\x01\x05\0\0\0\x01\x82\x86\x84\x41\x08web.test");
    wake(|world| world.clients[0].words = words);
    rig.rest();
    assert_eq!(world(|world| world.connected), 1, "it is asked");
    assert_eq!(unsent(&rig), [before[0]; 2], "nothing large was written");
    wake(|world| {
        world.endpoint.words = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n".to_vec();
        world.endpoint.rest = 1_000_000;
    });
    rig.rest();
    assert_eq!(unsent(&rig), [os::MOST_UNSENT, before[0]]);
    // Another asks on the same connection.
    wake(|world| {
        world.holds_connects = true;
        world.clients[0].words = b"\0\0\x0d\x01\x05\0\0\0\x03\x82\x86\x84\x41\x08web.test".to_vec();
    });
    rig.rest();
    wake(|world| world.endpoint.rest = Limits::READ_BLOCK - 1);
    rig.rest();
    assert_eq!(unsent(&rig)[..2], [os::MOST_UNSENT_BESIDE_OTHERS, before[0]]);
}

#[test]
fn a_connection_of_its_own_may_hold_much_unsent() {
    let mut rig = Rig::with(1);
    let before = unsent(&rig);
    send(0, MUCH);
    rig.rest();
    assert_eq!(unsent(&rig), before);
}
