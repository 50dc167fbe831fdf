//! Tunnels between real sockets, looked at by hand: what comes while nobody looks comes at once.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::rc::Rc;

use super::*;

/// Is told how much was written. True: a reset has come of it.
type Happens = dyn FnOnce(usize) -> bool;

thread_local! {
    /// Happens right after the next write from a pipe.
    static NEXT: RefCell<Option<Box<Happens>>> = RefCell::default();
}

/// What has no reactor: everything is tried at every visit.
struct Plain;

struct PlainStream(TcpStream);

fn ready<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsFd for PlainStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Stream for PlainStream {
    fn poll_connected(&self, _cx: &mut Context<'_>) -> Poll<io::Result<SocketAddr>> {
        ready(os::connect_result(&self.0))
    }

    fn poll_read(&mut self, block: &mut Block, _cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let read = ready((&self.0).read(block.room()));
        read.map_ok(|length| Read { length, more: length > 0 })
    }

    fn poll_write(
        &mut self,
        slices: &[IoSlice<'_>],
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready((&self.0).write_vectored(slices))
    }

    fn poll_read_with(
        &mut self,
        read: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready(read(self.0.as_fd()))
    }

    fn poll_write_with(
        &mut self,
        write: &mut dyn FnMut(BorrowedFd<'_>) -> io::Result<usize>,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let wrote = write(self.0.as_fd());
        if let Ok(n) = wrote
            && let Some(happen) = NEXT.take()
            && happen(n)
        {
            // So does a `splice` that is stopped by it: the error was told, and to nobody. (A busy
            // machine takes its time with what it sends to itself.)
            let start = Instant::now();
            while SockRef::from(&self.0).take_error().unwrap().is_none() {
                assert!(start.elapsed() < PATIENCE, "no reset comes");
                std::thread::yield_now();
            }
        }
        ready(wrote)
    }
}

impl Runtime for Plain {
    type Stream = PlainStream;
    type Listener = TcpListener;
    type Timer = ();
    type Dns = TokioRuntimeProvider;

    fn stream(socket: TcpStream) -> io::Result<PlainStream> {
        Ok(PlainStream(socket))
    }

    fn listener(socket: TcpListener) -> io::Result<TcpListener> {
        Ok(socket)
    }

    fn poll_accept(
        listener: &TcpListener,
        _cx: &mut Context<'_>,
    ) -> Poll<io::Result<(PlainStream, SocketAddr)>> {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result.and_then(|(socket, peer)| {
                socket.set_nonblocking(true)?;
                Ok((PlainStream(socket), peer))
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

/// Looks at every connection, so many times.
fn look(rig: &mut Rig<Plain>, times: usize) {
    for _ in 0..times {
        for socket in rig.driver.sockets.iter().flatten() {
            socket.source.queue(&mut rig.driver.ready);
        }
        rig.poll();
    }
}

/// A tunnel through a driver.
struct Tunnel {
    rig: Rig<Plain>,
    client: Option<TcpStream>,
    server: TcpStream,
}

impl Tunnel {
    fn new() -> Self {
        let mut rig = Rig::opaque();
        rig.connect(1);
        let client = rig.clients.pop();
        rig.endpoint.set_nonblocking(true).unwrap();
        let start = Instant::now();
        let server = loop {
            rig.look_at_listeners();
            look(&mut rig, 1);
            if let Ok((server, _)) = rig.endpoint.accept() {
                break server;
            }
            assert!(start.elapsed() < PATIENCE, "no connection");
            std::thread::sleep(Duration::from_millis(1));
        };
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        // The kernel makes them no larger now: what is in a pipe does not fit.
        for socket in rig.driver.sockets.iter().flatten() {
            SockRef::from(&socket.stream).set_send_buffer_size(1 << 16).unwrap();
        }
        Tunnel { rig, client, server }
    }

    /// So many looks at both ends.
    fn look(&mut self, times: usize) {
        look(&mut self.rig, times);
    }

    /// Bytes that are in pipes.
    fn in_pipes(&self) -> usize {
        self.rig.driver.blocks.pipes.held()
    }

    /// The server pours until all is full that holds bytes, a pipe among it, and stops.
    /// How much it poured.
    fn fill(&mut self) -> usize {
        self.server.set_nonblocking(true).unwrap();
        // Until the kernel has made its buffers as large as it makes them.
        let (mut idle, start) = (0, Instant::now());
        let mut poured = 0;
        while idle < 20 {
            assert!(start.elapsed() < PATIENCE, "it does not become full, or is not spliced");
            let mut wrote = 0;
            while let Ok(n) = self.server.write(&[7; 1 << 14]) {
                wrote += n;
            }
            let before = self.rig.driver.engine.gauges().buffered_bytes;
            self.look(4);
            poured += wrote;
            let moves = wrote > 0 || before != self.rig.driver.engine.gauges().buffered_bytes;
            idle = if moves { 0 } else { idle + 1 };
            if idle > 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if idle == 20 && self.in_pipes() == 0 {
                // What filled up last was read: once more, from an empty tunnel.
                self.drain(poured);
                (idle, poured) = (0, 0);
            }
        }
        self.server.set_nonblocking(false).unwrap();
        poured
    }

    /// The client reads all of it.
    fn drain(&mut self, poured: usize) {
        let (mut got, start) = (0, Instant::now());
        while got < poured {
            self.look(1);
            got += read_some(self.client.as_mut().unwrap());
            assert!(start.elapsed() < PATIENCE, "{got} of {poured} bytes came");
        }
    }

    /// What the server gets, and how that ends.
    fn end(mut self) -> (Vec<u8>, Result<(), ErrorKind>) {
        self.look(20);
        let mut got = Vec::new();
        let end = self.server.read_to_end(&mut got);
        (got, end.map(drop).map_err(|error| error.kind()))
    }
}

/// Makes room, if there is something to be read: how much there was.
fn read_some(client: &mut TcpStream) -> usize {
    client.set_nonblocking(true).unwrap();
    let read = client.read(&mut [0; 1 << 14]);
    client.set_nonblocking(false).unwrap();
    read.unwrap_or(0)
}

/// Sends half of something, and at once the end of all.
fn half_and_reset(mut client: TcpStream, fin: bool) {
    client.write_all(b"half").unwrap();
    if fin {
        client.shutdown(Shutdown::Write).unwrap();
    }
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
}

const RESET: Result<(), ErrorKind> = Err(ErrorKind::ConnectionReset);

#[test]
fn a_fin_before_a_reset_is_passed_on_whatever_flows() {
    for (fin, end) in [(true, Ok(())), (false, RESET)] {
        let mut tunnel = Tunnel::new();
        tunnel.fill();
        let client = tunnel.client.take().unwrap();
        half_and_reset(client, fin);
        assert_eq!(tunnel.end(), (b"half".into(), end), "with a FIN: {fin}");
    }
}

/// A splice that has written something and then meets a reset keeps it to itself.
#[test]
fn a_reset_that_a_splice_keeps_to_itself_is_no_fin() {
    // Who can tell after that whether there was a FIN before?
    for fin in [false, true] {
        let mut tries = 0..50;
        let tunnel = loop {
            tries.next().expect("no write was stopped");
            let mut tunnel = Tunnel::new();
            tunnel.fill();
            let client = Rc::new(RefCell::new(tunnel.client.take()));
            let (reader, held) = (Rc::clone(&client), tunnel.in_pipes());
            let (tell, was_stopped) = std::sync::mpsc::channel();
            NEXT.set(Some(Box::new(move |n| {
                tell.send(n < held).unwrap();
                if n < held {
                    half_and_reset(client.take().unwrap(), fin);
                }
                n < held
            })));
            // Until there is room for some of what is in the pipe, or for all of it: then nothing is
            // kept.
            let start = Instant::now();
            let stopped = loop {
                tunnel.look(1);
                if let Ok(stopped) = was_stopped.try_recv() {
                    break stopped;
                }
                read_some(reader.borrow_mut().as_mut().unwrap());
                assert!(start.elapsed() < PATIENCE, "nothing was written");
            };
            if stopped {
                break tunnel;
            }
        };
        assert!(tunnel.in_pipes() > 0, "what was not written is gone");
        assert_eq!(tunnel.end(), (b"half".into(), RESET), "with a FIN: {fin}");
    }
}

#[test]
fn a_slow_reader_gives_its_pipe_back_when_all_are_lent() {
    let mut tunnel = Tunnel::new();
    let poured = tunnel.fill();
    let (held, now) = (tunnel.in_pipes(), tunnel.rig.driver.now);
    // To a connection of somebody else's.
    let mut other = Rig::<Plain>::opaque().driver.engine;
    let accepted =
        Accepted { listener: 0, peer: tunnel.rig.addr, local: tunnel.rig.addr, original_dst: None };
    let to = (0..3).filter_map(|_| other.accept(now, accepted)).last().unwrap();
    let driver = &mut tunnel.rig.driver;
    driver.blocks.pipes.lend_all(to, now);
    let others = driver.blocks.pipes.held() - held;
    assert!(others > 0, "there is one pipe");
    let buffered = driver.engine.gauges().buffered_bytes;
    tunnel.rig.driver.timer.put_forward(Time::ZERO + Duration::from_millis(500));
    // Somebody flows.
    let sockets = &mut tunnel.rig.driver.sockets;
    sockets.iter_mut().flatten().for_each(|socket| socket.bulk = true);
    tunnel.look(1);
    assert_eq!(tunnel.in_pipes(), others, "it is taken back");
    assert_eq!(tunnel.rig.driver.engine.gauges().buffered_bytes, buffered, "it is here instead");
    tunnel.look(1);
    assert_eq!(tunnel.in_pipes(), others, "there is one for others");
    let mut client = tunnel.client.take().unwrap();
    client.set_nonblocking(true).unwrap();
    let (mut got, start) = (0, Instant::now());
    while got < poured {
        tunnel.look(1);
        if let Ok(n) = client.read(&mut [0; 1 << 14]) {
            got += n;
        }
        assert!(start.elapsed() < PATIENCE, "{got} of {poured} bytes came");
    }
    tunnel.look(5);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock, "too much");
}
