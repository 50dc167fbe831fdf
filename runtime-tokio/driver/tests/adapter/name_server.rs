//! A name server on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};

/// What it says.
#[derive(Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "each test uses its part")]
pub(crate) enum Zone {
    Both,
    Only6,
    Missing,
    Broken,
    /// As `Both`, but over UDP only that the answer does not fit.
    Long,
}

/// Starts it: how it is reached.
pub(crate) fn start(zone: Zone) -> ResolverConfig {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let port = udp.local_addr().unwrap().port();
    thread::spawn(move || serve_udp(&udp, zone));
    thread::spawn(move || serve_tcp(&tcp, zone));
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = port;
            connection
        })
        .to_vec();
    let server = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, connections);
    ResolverConfig::from_parts(None, Vec::new(), vec![server])
}

fn serve_udp(socket: &UdpSocket, zone: Zone) {
    let mut buffer = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let mut answer = answer(&buffer[..length], zone);
        if zone == Zone::Long {
            // TC.
            answer[2] |= 2;
        }
        let _ = socket.send_to(&answer, peer);
    }
}

/// RFC 1035 §4.2.2: each message behind its length.
fn serve_tcp(listener: &TcpListener, zone: Zone) {
    for mut stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                let answer = answer(&query, zone);
                let mut message = (answer.len() as u16).to_be_bytes().to_vec();
                message.extend(answer);
                stream.write_all(&message).unwrap();
            }
        });
    }
}

/// RFC 1035 §4.1: header, question, and at most one answer.
fn answer(query: &[u8], zone: Zone) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|&b| b == 0).unwrap();
    let question = &query[12..name_end + 5];
    let kind = u16::from_be_bytes([query[name_end + 1], query[name_end + 2]]);
    let (rcode, ttl, data): (u8, u32, &[u8]) = match (zone, kind) {
        (Zone::Both | Zone::Long, 1) => (0, 3600, &[192, 0, 2, 1]),
        (Zone::Both | Zone::Long | Zone::Only6, 28) => {
            (0, 1800, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
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
