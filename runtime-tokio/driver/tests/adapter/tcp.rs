//! Opaque connections through the adapter.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::common::{
    PATIENCE, Proxy, echo, fill, forward, pattern, reset, send_all, server, service, wait_for,
};
use crate::adapter::{Options, bind, block_on};
use selvedge_core::config::Target;
use selvedge_core::engine::{Direction, Event};
use selvedge_core::limits::Limits;
use selvedge_core::stats::Snapshot;
use socket2::{Domain, SockRef, Socket, Type};

#[test]
fn a_mebibyte_both_ways_and_half_close() {
    let proxy = Proxy::forward(server(echo));
    let mut client = proxy.connect();
    let bytes = pattern(1 << 20);
    let sender = send_all(&client, bytes.clone());
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    sender.join().unwrap().unwrap();
    assert!(back == bytes, "{} of {} bytes", back.len(), bytes.len());
    proxy.wait_idle();
}

#[test]
fn bulk_both_ways_at_once_arrives_unchanged_and_is_counted() {
    // Made before anybody waits for it: that takes a slow machine its time.
    let bytes = Arc::new(pattern(24 << 20));
    let to_send = Arc::clone(&bytes);
    let (tell, told) = channel();
    let proxy = Proxy::forward(server(move |stream| {
        let sent = send_all(&stream, to_send.to_vec());
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received).unwrap();
        sent.join().unwrap().unwrap();
        tell.send(received).unwrap();
    }));
    let mut client = proxy.connect();
    let sender = send_all(&client, bytes[..16 << 20].to_vec());
    // A reader that pauses until somebody waits for it: reads grow, and shrink again.
    let mut back = vec![0; 24 << 20];
    for part in back.chunks_mut(4 << 20) {
        client.read_exact(part).unwrap();
        wait_for("something to be held, or all to be sent", || {
            let now = proxy.snapshot();
            let sent = now.directions[Direction::Outbound as usize].accepted.write_bytes;
            now.gauges.buffered_bytes > 0 || sent == 24 << 20
        });
    }
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    assert!(back == *bytes);
    sender.join().unwrap().unwrap();
    assert!(told.recv_timeout(PATIENCE).unwrap() == bytes[..16 << 20]);
    proxy.wait_idle();
    let snapshot = proxy.snapshot();
    let accepted = &snapshot.directions[Direction::Outbound as usize].accepted;
    assert_eq!((accepted.read_bytes, accepted.write_bytes), (16 << 20, 24 << 20));
    assert_eq!(snapshot.gauges.buffered_bytes, 0);
}

#[test]
fn an_answer_after_the_clients_fin() {
    let backend = server(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&request).unwrap();
    });
    let proxy = Proxy::forward(backend);
    let mut client = proxy.connect();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"question");
    proxy.wait_idle();
}

#[test]
fn many_connections_at_once() {
    let proxy = Proxy::forward(server(echo));
    let mut clients: Vec<TcpStream> = (0..100).map(|_| proxy.connect()).collect();
    for round in 0..20_u32 {
        for (number, client) in (0_u32..).zip(&mut clients) {
            client.write_all(&(number + round).to_be_bytes()).unwrap();
        }
        for (number, client) in (0_u32..).zip(&mut clients) {
            let mut answer = [0; 4];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(u32::from_be_bytes(answer), number + round);
        }
    }
    drop(clients);
    proxy.wait_idle();
}

#[test]
fn a_reset_from_the_backend_is_a_reset_for_the_client() {
    let backend = server(|mut stream| {
        let _ = stream.read(&mut [0; 1]);
        reset(stream);
    });
    let proxy = Proxy::forward(backend);
    let mut client = proxy.connect();
    client.write_all(b"x").unwrap();
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.wait_idle();
}

#[test]
fn a_reset_from_the_client_is_a_reset_for_the_backend() {
    let (seen, result) = channel();
    let seen = Mutex::new(seen);
    let backend = server(move |mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"hello").unwrap();
        let end = stream.read(&mut [0; 1]).map_err(|error| error.kind());
        seen.lock().unwrap().send(end).unwrap();
    });
    let proxy = Proxy::forward(backend);
    let mut client = proxy.connect();
    client.read_exact(&mut [0; 5]).unwrap();
    reset(client);
    let end = result.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    proxy.wait_idle();
}

#[test]
fn nobody_listening_ends_the_client() {
    // It has the port, so that no other test gets it, and does not listen.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    nobody.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let addr = nobody.local_addr().unwrap().as_socket().unwrap();
    let mut config = forward(Target::Addr(addr));
    config.timeouts.failfast = Duration::from_millis(300);
    let proxy = Proxy::start(config, &Options::default());
    let mut client = proxy.connect();
    // Whether by FIN or by RST: it does not hang.
    assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    proxy.wait_idle();
}

#[test]
fn a_slow_reader_holds_the_writer_back() {
    let (slow, taken) = channel();
    let proxy = Proxy::forward(server(move |stream| slow.send(stream).unwrap()));
    let client = proxy.connect();
    let mut reader = taken.recv_timeout(PATIENCE).unwrap();

    // It stands still when all buffers are full, however large the kernel makes its own …
    let wrote = fill(&proxy, &client);
    // … and ours hold no more than they may, and one block: a large one, as it flowed before.
    let most = Limits::default().stream_buffer + Limits::BULK_BLOCK;
    let held = proxy.snapshot().gauges.buffered_bytes;
    assert!(held > 0 && held <= most, "{held} bytes");

    // It goes on when the reader does.
    let sender = send_all(&client, vec![7; 1 << 20]);
    reader.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), wrote + (1 << 20));
    drop(reader);
    sender.join().unwrap().unwrap();
    drop(client);
    proxy.wait_idle();
}

/// Bytes that came from clients.
fn read_bytes(snapshot: &Snapshot) -> u64 {
    let directions = &snapshot.directions;
    directions.iter().map(|d| d.accepted.read_bytes).sum()
}

#[test]
fn urgent_data_does_not_stop_a_flow() {
    // Made before anybody waits for it: that takes a slow machine its time.
    let bytes = Arc::new(pattern(8 << 20));
    let to_send = Arc::clone(&bytes);
    let proxy = Proxy::forward(server(move |mut stream| {
        stream.write_all(&to_send).unwrap();
        // It is not passed on, as it has no place among the others.
        SockRef::from(&stream).send_out_of_band(b"!").unwrap();
        stream.write_all(&to_send).unwrap();
    }));
    let mut back = Vec::new();
    proxy.connect().read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), 16 << 20);
    assert!(back == bytes.repeat(2));
    proxy.wait_idle();
}

#[test]
fn what_follows_urgent_data_waits_for_nothing() {
    let (tell, told) = channel();
    let config = Arc::new(forward(Target::Addr(server(move |mut stream| {
        let mut got = [0; 11];
        while stream.read_exact(&mut got).is_ok() {
            tell.send(got).unwrap();
        }
    }))));
    let send = |client: &mut TcpStream| {
        client.write_all(b"before").unwrap();
        SockRef::from(&*client).send_out_of_band(b"!").unwrap();
        client.write_all(b"after").unwrap();
    };
    let bound = bind(&config, &Options::default()).unwrap();
    let mut client = TcpStream::connect(bound.local_addrs()[0]).unwrap();
    // All of it is there before anybody looks …
    send(&mut client);
    let (looks_away, looked_away) = channel();
    let gate = Arc::new(Mutex::new(()));
    let worker_gate = Arc::clone(&gate);
    let workers = bound
        .serve(&config, move |event| {
            if matches!(event, Event::Reloaded { .. }) {
                looks_away.send(()).unwrap();
                drop(worker_gate.lock().unwrap());
            }
        })
        .unwrap();
    assert_eq!(&told.recv_timeout(PATIENCE).unwrap(), b"beforeafter");
    // … and again, while the worker is busy.
    for _ in 0..3 {
        let closed = gate.lock().unwrap();
        workers.handles()[0].reload(Arc::clone(&config));
        looked_away.recv_timeout(PATIENCE).unwrap();
        send(&mut client);
        drop(closed);
        assert_eq!(&told.recv_timeout(PATIENCE).unwrap(), b"beforeafter");
    }
}

#[test]
fn a_bulk_transfer_does_not_starve_others() {
    let proxy = Proxy::forward(server(echo));
    let mut bulk = proxy.connect();
    // It flows until all the others were answered: who had to wait for it would wait for ever.
    let over = Arc::new(AtomicBool::new(false));
    let (mut stream, is_over) = (bulk.try_clone().unwrap(), Arc::clone(&over));
    let sender = std::thread::spawn(move || {
        let (block, mut sent) = (vec![1; 1 << 20], 0);
        while sent == 0 || !is_over.load(Ordering::Acquire) {
            stream.write_all(&block).unwrap();
            sent += block.len() as u64;
        }
        stream.shutdown(Shutdown::Write).unwrap();
        sent
    });
    let drain = std::thread::spawn(move || std::io::copy(&mut bulk, &mut std::io::sink()).unwrap());
    wait_for("it to flow", || read_bytes(&proxy.snapshot()) > 1 << 20);
    for _ in 0..50 {
        let mut client = proxy.connect();
        client.write_all(b"ping").unwrap();
        client.read_exact(&mut [0; 4]).unwrap();
    }
    over.store(true, Ordering::Release);
    assert_eq!(sender.join().unwrap(), drain.join().unwrap());
}

#[test]
fn a_drain_lets_connections_finish_and_ends_the_worker() {
    let mut proxy = Proxy::forward(server(echo));
    let mut client = proxy.connect();
    client.write_all(b"before").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    proxy.worker().drain();
    wait_for("the listener to close", || TcpStream::connect(proxy.addr).is_err());
    client.write_all(b"after").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    drop(client);
    proxy.ended().unwrap();
    let events: Vec<Event> = proxy.events.try_iter().collect();
    assert_eq!(events.last(), Some(&Event::Drained), "{events:?}");
    // What is asked afterwards gets no answer, but it gets an end.
    assert_eq!(block_on(proxy.worker().snapshot()), None);
}

#[test]
fn a_drain_of_an_idle_worker_ends_it() {
    let mut proxy = Proxy::forward(server(echo));
    proxy.worker().drain();
    proxy.ended().unwrap();
    assert!(TcpStream::connect(proxy.addr).is_err());
}

#[test]
fn a_reload_takes_effect() {
    let proxy = Proxy::forward(server(|mut stream| stream.write_all(b"one").unwrap()));
    let ask = || {
        let mut answer = String::new();
        proxy.connect().read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(ask(), "one");
    let other = server(|mut stream| stream.write_all(b"two").unwrap());
    let mut config = forward(Target::Addr(other));
    config.services.push(service("unused.example:80".into(), Target::Addr(other), false));
    proxy.worker().reload(Arc::new(config));
    let event = proxy.events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(event, Event::Reloaded { services: 2 });
    assert_eq!(ask(), "two");
}

#[test]
fn an_endpoint_may_be_a_name() {
    let backend = server(echo);
    let proxy = Proxy::start(
        forward(Target::Name { host: "localhost".into(), port: backend.port() }),
        &Options::default(),
    );
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn every_worker_gets_connections() {
    let options = Options { workers: 2, ..Options::default() };
    let config = forward(Target::Addr(server(echo)));
    let mut proxy = Proxy::start(config, &options);
    let mut clients: Vec<TcpStream> = (0..64).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
    }
    let mut sum = 0;
    for worker in proxy.workers.handles() {
        let snapshot = block_on(worker.snapshot()).unwrap();
        let read = read_bytes(&snapshot);
        assert!(read > 0);
        sum += read;
    }
    assert_eq!(sum, 64 * 5);
    drop(clients);
    for worker in proxy.workers.handles() {
        worker.drain();
    }
    proxy.ended().unwrap();
}

#[test]
fn a_panic_ends_the_worker_and_is_reported() {
    let config = forward(Target::Addr(server(echo)));
    let bound = bind(&config, &Options::default()).unwrap();
    let addr = bound.local_addrs()[0];
    let mut workers =
        bound.serve(&Arc::new(config), |event| panic!("as planned: {event:?}")).unwrap();
    workers.handles()[0].drain();
    let result = block_on(workers.ended());
    assert!(result.is_err());
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_worker_runs_in_a_runtime_that_is_there_already() {
    let config = forward(Target::Addr(server(echo)));
    let bound = bind(&config, &Options::default()).unwrap();
    let addr = bound.local_addrs()[0];
    let (worker, future) = bound.embed(&Arc::new(config), |_| {});
    let client = std::thread::spawn(move || {
        let mut client = TcpStream::connect(addr).unwrap();
        client.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        drop(client);
        worker.drain();
    });
    block_on(future).unwrap();
    client.join().unwrap();
}

#[test]
fn a_reset_that_a_write_meets_is_no_fin() {
    let (tell, told) = channel();
    let proxy = Proxy::forward(server(move |stream| tell.send(stream).unwrap()));
    let mut client = proxy.connect();
    let mut stream = told.recv_timeout(PATIENCE).unwrap();
    // From now on only reads tell what happens.
    fill(&proxy, &stream);
    client.write_all(b"the first half").unwrap();
    let read = || proxy.snapshot().directions[Direction::Outbound as usize].accepted.read_bytes;
    wait_for("it to be read", || read() == 14);
    reset(client);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got).map_err(|error| error.kind());
    assert_eq!((got.len(), end), (14, Err(ErrorKind::ConnectionReset)));
    proxy.wait_idle();
}
