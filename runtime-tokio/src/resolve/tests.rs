use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;

use hickory_resolver::config::ConnectionConfig;
use tokio::runtime::Runtime;

use super::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn localhost_needs_no_server() {
    let mut names = Names::new(Arc::default());
    runtime().block_on(async {
        names.refresh();
        let (addrs, _) = look_up(names.resolver.as_ref().unwrap(), "localhost").await.unwrap();
        assert!(addrs.contains(&Ipv4Addr::LOCALHOST.into()), "{addrs:?}");
        assert!(addrs.iter().all(|addr| addr.is_loopback()), "{addrs:?}");
    });
}

#[test]
fn both_families_and_the_shorter_time_to_live() {
    let (addrs, ttl) = ask(Zone::Both).unwrap();
    let expected: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    assert_eq!(addrs, expected);
    assert!(ttl <= Duration::from_secs(30), "{ttl:?}");
    assert!(ttl > Duration::from_secs(25), "{ttl:?}");
}

#[test]
fn one_family_is_enough() {
    let (addrs, ttl) = ask(Zone::Only6).unwrap();
    assert_eq!(addrs.len(), 1);
    assert!(addrs[0].is_ipv6());
    assert!(ttl > Duration::from_secs(25), "{ttl:?}");
}

#[test]
fn a_name_that_is_not_there_differs_from_a_server_that_fails() {
    assert_eq!(ask(Zone::Missing), Err(DnsError::NotFound));
    assert_eq!(ask(Zone::Broken), Err(DnsError::Failed));
}

/// What the test's name server says.
#[derive(Clone, Copy, PartialEq)]
enum Zone {
    Both,
    Only6,
    Missing,
    Broken,
}

fn ask(zone: Zone) -> Answer {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || serve(&socket, zone));
    let mut connection = ConnectionConfig::udp();
    connection.port = port;
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    runtime().block_on(async {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set_options(builder.options_mut());
        look_up(&builder.build().unwrap(), "app.example").await
    })
}

fn serve(socket: &UdpSocket, zone: Zone) {
    let mut buffer = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let answer = answer(&buffer[..length], zone);
        let _ = socket.send_to(&answer, peer);
    }
}

/// RFC 1035 §4.1: header, question, and at most one answer.
fn answer(query: &[u8], zone: Zone) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&b| b == 0).unwrap();
    let question = &query[12..name_end + 5];
    let kind = u16::from_be_bytes([query[name_end + 1], query[name_end + 2]]);
    let (rcode, ttl, data): (u8, u32, &[u8]) = match (zone, kind) {
        (Zone::Both, 1) => (0, 60, &[192, 0, 2, 1]),
        (Zone::Both | Zone::Only6, 28) => {
            (0, 30, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
        }
        (Zone::Missing, _) => (3, 0, &[]),
        (Zone::Broken, _) => (2, 0, &[]),
        _ => (0, 0, &[]),
    };
    let mut out = query[..2].to_vec();
    out.extend([0x81, 0x80 | rcode, 0, 1, 0, u8::from(!data.is_empty()), 0, 0, 0, 0]);
    out.extend(question);
    if !data.is_empty() {
        // A pointer to the question's name.
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend((data.len() as u16).to_be_bytes());
        out.extend(data);
    }
    out
}
