use hickory_resolver::Resolver;
use name_server::Zone;

use super::*;

#[path = "../../../runtime-tokio/driver/tests/adapter/name_server.rs"]
mod name_server;

/// Runs what is left behind on threads.
#[derive(Clone)]
struct Threads;

impl Spawn for Threads {
    fn spawn_bg(&mut self, future: impl Future<Output = ()> + Send + 'static) {
        std::thread::spawn(move || async_io::block_on(future));
    }
}

fn ask(zone: Zone) -> Option<usize> {
    let config = name_server::start(zone);
    let resolver = Resolver::builder_with_config(config, Dns(Threads)).build().unwrap();
    let answer = async_io::block_on(resolver.lookup_ip("app.example"));
    Some(answer.ok()?.iter().count())
}

#[test]
fn over_udp() {
    assert_eq!(ask(Zone::Both), Some(2));
    assert_eq!(ask(Zone::Missing), None);
}

#[test]
fn over_tcp_when_the_answer_is_too_long() {
    assert_eq!(ask(Zone::Long), Some(2));
}

#[test]
fn a_server_that_is_not_there_does_not_hang() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connect = Dns(Threads).connect_tcp(nobody.local_addr().unwrap(), None, None);
    let error = async_io::block_on(connect).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let never = std::future::pending::<()>();
    let error = async_io::block_on(Clock::timeout(Duration::from_millis(10), never)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
