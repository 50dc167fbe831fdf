//! How much rides one TLS record between two proxies.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::traffic::Pair;
use super::{identity, init};
use crate::common::{App, Mesh, PATIENCE, Proxy, eventually};

const CLIENTS: usize = 16;

/// Passes on what a proxy sends to another, and counts its records of application data.
struct Relay {
    addr: SocketAddr,
    records: Arc<AtomicUsize>,
}

impl Relay {
    fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("cannot listen");
        let addr = listener.local_addr().expect("no address");
        let records = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&records);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(to).expect("cannot connect");
                let (mut answers, mut back) = (clone(&far), clone(&near));
                thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut back);
                    let _ = back.shutdown(Shutdown::Write);
                });
                let counter = Arc::clone(&counter);
                thread::spawn(move || pass_records(near, far, &counter));
            }
        });
        Relay { addr, records }
    }

    fn records(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("cannot clone a socket")
}

/// RFC 8446 §5.1: a type, a version, a length of two bytes.
fn pass_records(mut near: TcpStream, mut far: TcpStream, counter: &AtomicUsize) {
    let mut record = vec![0; 5];
    while near.read_exact(&mut record[..5]).is_ok() {
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        if near.read_exact(&mut record[5..]).is_err() {
            break;
        }
        counter.fetch_add(usize::from(record[0] == 23), Ordering::AcqRel);
        if far.write_all(&record).is_err() {
            break;
        }
    }
    let _ = far.shutdown(Shutdown::Write);
}

fn ask(client: &mut TcpStream) {
    client.write_all(b"GET /name HTTP/1.1\r\nHost: web.test\r\n\r\n").expect("cannot write");
}

fn take_answer(client: &mut TcpStream) {
    let (mut answer, mut buffer) = (Vec::new(), [0; 1024]);
    while !answer.ends_with(b"\r\n\r\nthe app") {
        let n = client.read(&mut buffer).expect("no answer");
        assert!(n > 0, "cut: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

/// Stops it, so that what clients send meanwhile is all there when it goes on.
fn pause(proxy: &Proxy) {
    proxy.signal("STOP");
    eventually("it is stopped", PATIENCE, || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).expect("no /proc");
        let stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T'))
        };
        tasks.flatten().all(stopped).then_some(())
    });
}

/// Each record is a system call on either side, and a packet: requests that are there at the same
/// time share one.
#[test]
fn requests_of_many_clients_share_a_record() {
    let (_folder, ca) = init();
    let app = App::start("the app");
    let inbound = Pair::inbound(&identity(super::traffic::APP, &ca), app.addr);
    let relay = Relay::start(inbound.inbound());
    let outbound = Mesh::new()
        .section(identity(super::traffic::CLIENT, &ca))
        .section(format!(
            "[[service]]\nauthority = \"web.test\"\n\
             endpoints = [{{ addr = \"{}\", identity = \"{}\" }}]",
            relay.addr,
            super::traffic::APP,
        ))
        .start();
    let mut clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let client = TcpStream::connect(outbound.outbound()).expect("cannot connect");
            client.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
            client
        })
        .collect();
    // The connection between the proxies is made, and its settings are settled.
    for client in &mut clients {
        ask(client);
        take_answer(client);
    }
    let alone = relay.records();
    assert!(alone >= CLIENTS, "{alone} records for {CLIENTS} requests, one after another");
    pause(&outbound);
    let before = relay.records();
    clients.iter_mut().for_each(ask);
    outbound.signal("CONT");
    clients.iter_mut().for_each(take_answer);
    let together = relay.records() - before;
    assert!(together <= CLIENTS / 4, "{together} records for {CLIENTS} requests at once");
}
