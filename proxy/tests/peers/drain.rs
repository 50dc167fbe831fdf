//! The end: SIGTERM and what it waits for. curl on one side, hyper and socketserver on the other.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::{
    App, Mesh, Need, PATIENCE, Peer, Proxy, Ran, curl, eventually, have, run, script,
};

const NEEDS: [Need; 2] = [Need::Program("curl"), Need::Program("python3")];

/// Much less than the grace, which is 2 minutes.
const PROMPTLY: Duration = Duration::from_secs(15);

/// A request in the background, which the app already has.
fn in_flight(proxy: &Proxy, app: &App, path: &str) -> JoinHandle<Ran> {
    let before = app.requests();
    let (to, url) = (proxy.outbound(), format!("http://web.test{path}"));
    let request = std::thread::spawn(move || run(&mut curl(to, &["-i", &url]), PATIENCE));
    eventually("the request is under way", PATIENCE, || (app.requests() > before).then_some(()));
    request
}

fn refuses(to: SocketAddr) -> bool {
    TcpStream::connect(to).is_err()
}

fn open(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("cannot connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    stream
}

#[test]
fn what_is_in_flight_completes_and_nothing_new_begins() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("the app");
    let mut proxy = Mesh::new().service("web.test", &[app.addr]).start();
    // Idle ones are closed at once.
    let mut idle = open(proxy.outbound());
    idle.write_all(b"GET /name HTTP/1.1\r\nHost: web.test\r\n\r\n").expect("cannot write");
    let mut answer = [0; 1024];
    assert!(idle.read(&mut answer).expect("no answer") > 0);
    let slow = in_flight(&proxy, &app, "/slow/4000");
    let drip = in_flight(&proxy, &app, "/drip/20/200");
    proxy.signal("TERM");
    eventually("new connections are refused", Duration::from_secs(3), || {
        refuses(proxy.outbound()).then_some(())
    });
    assert_eq!(idle.read(&mut answer).expect("not closed"), 0);
    proxy.assert_alive();
    assert!(!slow.is_finished(), "the machine is too slow for this test");
    // It says that it is going away while it still serves.
    assert!(!proxy.is_ready());
    let text = slow.join().expect("curl failed").ok().text();
    assert!(text.contains("200 OK") && text.ends_with("the app"), "{text}");
    assert!(text.to_lowercase().contains("\r\nconnection: close\r\n"), "{text}");
    // Its head was passed on before the drain.
    let text = drip.join().expect("curl failed").ok().text();
    assert!(text.ends_with("piece 19\n"), "{text}");
    assert!(proxy.wait(PROMPTLY).success());
}

#[test]
fn sigint_drains_too_and_nothing_to_do_ends_at_once() {
    if !have(&NEEDS) {
        return;
    }
    for signal in ["INT", "TERM"] {
        let app = App::start("the app");
        let mut proxy = Mesh::new().service("web.test", &[app.addr]).start();
        assert_eq!(proxy.get("http://web.test/name").0, 200);
        let start = Instant::now();
        proxy.signal(signal);
        assert!(proxy.wait(PROMPTLY).success(), "{signal}");
        println!("SIG{signal}: ended after {:?}", start.elapsed());
    }
}

#[test]
fn half_open_leftovers_do_not_hold_it_up() {
    if !have(&NEEDS) {
        return;
    }
    // A client that has closed its side and a server that does not care.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("cannot listen");
    let addr = listener.local_addr().expect("no address");
    let mut proxy = Mesh::new().forward(&[addr]).start();
    let client = open(proxy.forward(0));
    let (mut server, _) = listener.accept().expect("cannot accept");
    client.shutdown(std::net::Shutdown::Write).expect("cannot shut down");
    let mut rest = Vec::new();
    server.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    server.read_to_end(&mut rest).expect("not closed");
    proxy.signal("TERM");
    assert!(proxy.wait(PROMPTLY).success());
    drop((client, server));
}

#[test]
fn a_tunnel_in_use_is_waited_for() {
    if !have(&NEEDS) {
        return;
    }
    let server = Peer::start(script("lines.py").arg("upper"));
    let mut proxy = Mesh::new().forward(&[server.addr]).start();
    let mut client = open(proxy.forward(0));
    let mut talk = |line: &[u8]| {
        client.write_all(line).expect("cannot write");
        let mut answer = vec![0; line.len()];
        client.read_exact(&mut answer).expect("no answer");
        assert_eq!(answer, line.to_ascii_uppercase());
    };
    talk(b"before\n");
    proxy.signal("TERM");
    eventually("new connections are refused", Duration::from_secs(3), || {
        refuses(proxy.forward(0)).then_some(())
    });
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(100));
        talk(b"during\n");
    }
    proxy.assert_alive();
    client.shutdown(std::net::Shutdown::Write).expect("cannot shut down");
    let mut rest = String::new();
    client.read_to_string(&mut rest).expect("cannot read");
    assert_eq!(rest, "11 lines\n");
    assert!(proxy.wait(PROMPTLY).success());
}

#[test]
fn the_grace_ends_what_does_not_end() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("the app");
    let mut proxy = Mesh::new().service("web.test", &[app.addr]).timeout("grace = \"1s\"").start();
    let endless = in_flight(&proxy, &app, "/slow/40000");
    let start = Instant::now();
    proxy.signal("TERM");
    let status = proxy.wait(PROMPTLY);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(status.success(), "{status}");
    let ran = endless.join().expect("curl failed");
    let text = ran.text();
    assert!(!ran.status.success() || text.starts_with("HTTP/1.1 503 "), "{text}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("the app");
    let mut proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let endless = in_flight(&proxy, &app, "/slow/40000");
    proxy.signal("TERM");
    eventually("it drains", PROMPTLY, || refuses(proxy.outbound()).then_some(()));
    proxy.assert_alive();
    proxy.signal("TERM");
    let status = proxy.wait(Duration::from_secs(3));
    assert!(!status.success(), "{status}");
    assert!(!endless.join().expect("curl failed").status.success());
}
