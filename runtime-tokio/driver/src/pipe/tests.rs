use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, Engine};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;
use socket2::SockRef;

use super::*;

/// Two connected sockets, of which the second does not block.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    far.set_nonblocking(true).unwrap();
    (near, far)
}

/// Waits until that is true of a socket: what is sent to it is not there at once on every kernel.
#[track_caller]
fn wait_for(socket: &TcpStream, what: PollFlags) {
    // Who has a low priority may get no CPU for half a minute.
    let patience = Timespec { tv_sec: 120, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(socket, what)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "waited in vain for {what:?}");
}

/// Names of connections.
fn names(count: usize) -> Vec<ConnId> {
    let addr = ([127, 0, 0, 1], 4140).into();
    let listeners = vec![Listener { addr, kind: ListenerKind::Outbound }];
    let config = Config { listeners, ..Config::default() };
    let mut engine = Engine::new(Arc::new(config), Seed::from_number(1), Time::ZERO);
    let accepted = Accepted { listener: 0, peer: addr, local: addr, original_dst: None };
    (0..count).map(|_| engine.accept(Time::ZERO, accepted).unwrap()).collect()
}

#[test]
fn bytes_pass_from_socket_to_socket() {
    let (mut client, from) = sockets();
    let (mut server, to) = sockets();
    let mut pipe = Pipe::new().unwrap();
    let nothing = pipe.fill(from.as_fd(), 100).unwrap_err();
    assert_eq!((nothing.kind(), pipe.held()), (ErrorKind::WouldBlock, 0));
    client.write_all(b"hello, world").unwrap();
    wait_for(&from, PollFlags::IN);
    assert_eq!(pipe.fill(from.as_fd(), 7).unwrap(), 7, "no more than it may");
    assert_eq!((pipe.drain(to.as_fd()).unwrap(), pipe.held()), (7, 0));
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 5);
    client.shutdown(Shutdown::Write).unwrap();
    wait_for(&from, PollFlags::RDHUP);
    assert_eq!(pipe.drain(to.as_fd()).unwrap(), 5);
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 0, "the end");
    drop(to);
    let mut got = String::new();
    server.read_to_string(&mut got).unwrap();
    assert_eq!(got, "hello, world");
}

#[test]
fn a_full_socket_leaves_the_rest_in_the_pipe() {
    let (mut client, from) = sockets();
    let (mut server, to) = sockets();
    let mut pipe = Pipe::new().unwrap();
    // However much the kernel takes of it.
    let sender = std::thread::spawn(move || {
        let block = vec![7; 1 << 16];
        loop {
            if let Err(error) = client.write_all(&block) {
                return error;
            }
        }
    });
    let mut passed = 0;
    let full = loop {
        while pipe.held() == 0 {
            if let Err(error) = pipe.fill(from.as_fd(), 512 << 10) {
                assert!(!is_refusal(&error), "{error}");
            }
        }
        match pipe.drain(to.as_fd()) {
            Ok(n) => passed += n,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    let held = pipe.held();
    assert!(held > 0);
    to.set_nonblocking(false).unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; passed + held];
        server.read_exact(&mut got).map(|()| got)
    });
    while pipe.held() > 0 {
        pipe.drain(to.as_fd()).unwrap();
    }
    assert!(reader.join().unwrap().unwrap().iter().all(|&byte| byte == 7));
    drop(from);
    // It is told that nobody reads any more.
    assert!(matches!(
        sender.join().unwrap().kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    ));
}

#[test]
fn a_pipe_with_bytes_is_nobody_elses() {
    let (mut client, from) = sockets();
    let (_server, to) = sockets();
    client.write_all(b"hello").unwrap();
    wait_for(&from, PollFlags::IN);
    let names = names(2);
    let mut pipes = Pipes::default();
    let mut pipe = pipes.take(Time::ZERO).unwrap();
    pipe.fill(from.as_fd(), 100).unwrap();
    pipes.lend(names[0], pipe, Time::ZERO);
    pipes.take_back(names[0], false);
    pipes.take_back(names[1], true);
    assert!(pipes.of(names[1]).is_none());
    let lent = pipes.of(names[0]).expect("it waits");
    assert_eq!(lent.drain(to.as_fd()).unwrap(), 5);
    pipes.take_back(names[0], false);
    assert!(pipes.of(names[0]).is_none());
    assert_eq!(pipes.empty.len(), 1, "for the next");
    // One whose connection is over is closed with what is in it.
    client.write_all(b"lost").unwrap();
    wait_for(&from, PollFlags::IN);
    let mut pipe = pipes.take(Time::ZERO).unwrap();
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 4);
    pipes.lend(names[0], pipe, Time::ZERO);
    pipes.take_back(names[0], true);
    assert!(pipes.of(names[0]).is_none() && pipes.empty.is_empty());
}

#[test]
fn there_are_few_and_none_for_a_while_after_a_refusal() {
    let names = names(MOST_LENT);
    let mut pipes = Pipes::default();
    for &name in &names {
        let mut pipe = pipes.take(Time::ZERO).unwrap();
        // As if.
        pipe.held = 1;
        pipes.lend(name, pipe, Time::ZERO);
    }
    assert!(pipes.take(Time::ZERO).is_none());
    pipes.take_back(names[3], true);
    let pipe = pipes.take(Time::ZERO).expect("there is one less");
    pipes.put(pipe);
    let refused = Time::ZERO + Duration::from_secs(7);
    pipes.refuse(refused);
    pipes.vacate();
    let until = refused + RETRY_AFTER;
    let almost = refused + RETRY_AFTER / 2;
    assert!(pipes.take(almost).is_none());
    // Whatever flows meanwhile.
    assert!(pipes.take(until).is_some());
}

#[test]
fn who_keeps_one_for_long_gives_it_back_when_all_are_lent() {
    let (mut client, from) = sockets();
    let names = names(MOST_LENT);
    let mut pipes = Pipes::default();
    let at = |nth: u32| Time::ZERO + LENT_FOR / 100 * nth;
    for (nth, &name) in (0..).zip(&names) {
        client.write_all(&[nth as u8; 1000]).unwrap();
        wait_for(&from, PollFlags::IN);
        let mut pipe = pipes.take(at(nth)).unwrap();
        assert_eq!(pipe.fill(from.as_fd(), 1000).unwrap(), 1000);
        let late = at(nth) + LENT_FOR * 2;
        assert!(pipes.recall(late).is_none(), "there are others");
        pipes.lend(name, pipe, at(nth));
    }
    assert!(pipes.take(at(20)).is_none());
    assert!(pipes.recall(at(99)).is_none(), "it may be taken yet");
    // One of them was taken in time, and lent again: it is the youngest.
    let (_server, to) = sockets();
    assert_eq!(pipes.of(names[0]).unwrap().drain(to.as_fd()).unwrap(), 1000);
    pipes.take_back(names[0], false);
    let mut pipe = pipes.take(at(50)).unwrap();
    client.write_all(&[0; 1000]).unwrap();
    wait_for(&from, PollFlags::IN);
    pipe.fill(from.as_fd(), 1000).unwrap();
    pipes.lend(names[0], pipe, at(50));
    assert!(pipes.recall(at(100)).is_none());
    let (slow, data) = pipes.recall(at(101)).unwrap();
    assert_eq!((slow, &data.unwrap()[..]), (names[1], &[1; 1000][..]));
    assert!(pipes.of(names[1]).is_none());
    assert!(pipes.recall(at(300)).is_none(), "there is one now");
    assert_eq!(pipes.take(at(300)).map(|pipe| pipe.held()), Some(0));
}

#[test]
fn one_at_most_waits_for_the_next_flow() {
    let names = names(3);
    let mut pipes = Pipes::default();
    for &name in &names {
        let pipe = pipes.take(Time::ZERO).unwrap();
        pipes.lend(name, pipe, Time::ZERO);
    }
    pipes.take_back(names[0], true);
    pipes.take_back(names[1], false);
    assert_eq!(pipes.empty.len(), 2, "one is in use, and others soon may be");
    pipes.take_back(names[2], false);
    assert_eq!(pipes.empty.len(), 3);
    // Whoever that was.
    pipes.take_back(names[0], true);
    assert_eq!(pipes.empty.len(), 1);
}

#[test]
fn urgent_data_has_to_be_passed_over() {
    let (mut client, mut from) = sockets();
    let (mut server, to) = sockets();
    let mut pipe = Pipe::new().unwrap();
    client.write_all(b"before").unwrap();
    SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"after").unwrap();
    wait_for(&from, PollFlags::PRI);
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 6);
    assert_eq!(pipe.drain(to.as_fd()).unwrap(), 6);
    wait_for(&from, PollFlags::IN);
    let error = pipe.fill(from.as_fd(), 100).unwrap_err();
    assert_eq!((error.kind(), pipe.held()), (ErrorKind::Unsupported, 0));
    let mut rest = [0; 100];
    assert_eq!(from.read(&mut rest).unwrap(), 5);
    assert_eq!(&rest[..5], b"after");
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.write_all(b"the end").unwrap();
    wait_for(&from, PollFlags::IN);
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 7);
    assert_eq!(pipe.drain(to.as_fd()).unwrap(), 7);
    server.read_exact(&mut rest[..13]).unwrap();
    assert_eq!(&rest[..13], b"beforethe end");
}

#[test]
fn only_what_is_about_splice_is_read_instead() {
    for (error, expected) in
        [(libc::EINVAL, true), (libc::ENOSYS, true), (libc::EPERM, true), (libc::ECONNRESET, false)]
    {
        assert_eq!(is_refusal(&io::Error::from_raw_os_error(error)), expected, "{error}");
    }
}

#[test]
fn a_fin_is_behind_all_that_was_sent() {
    let (mut client, mut from) = sockets();
    let mut pipe = Pipe::new().unwrap();
    SockRef::from(&client).send_out_of_band(b"!").unwrap();
    client.write_all(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    wait_for(&from, PollFlags::RDHUP);
    let error = pipe.fill(from.as_fd(), 100).unwrap_err();
    assert_eq!((error.kind(), pipe.held()), (ErrorKind::Unsupported, 0));
    let mut rest = [0; 100];
    assert_eq!(from.read(&mut rest).unwrap(), 5);
    assert_eq!(&rest[..5], b"after");
    assert_eq!(pipe.fill(from.as_fd(), 100).unwrap(), 0, "the end");
}

#[test]
fn a_reset_that_comes_meanwhile_is_no_fin() {
    let mut pipe = Pipe::new().unwrap();
    // Half of them come between two looks.
    for _ in 0..100 {
        let (client, from) = sockets();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        let gone = std::thread::spawn(move || drop(client));
        let end = loop {
            match pipe.fill(from.as_fd(), 100) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
        gone.join().unwrap();
    }
}
