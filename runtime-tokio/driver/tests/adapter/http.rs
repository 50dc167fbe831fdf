//! HTTP through the adapter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;

use super::common::{Proxy, send_all, server, service};
use crate::adapter::Options;
use selvedge_core::config::{Config, Listener, ListenerKind, Target};

#[test]
fn get() {
    let backend = server(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                break;
            }
            lines.push(line);
        }
        assert_eq!(lines[0], "GET /path HTTP/1.1\r\n");
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        (&stream).write_all(response).unwrap();
    });
    let proxy = Proxy::start(outbound(backend), &Options::default());
    let mut client = proxy.connect();
    client
        .write_all(b"GET /path HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nhello"), "{response}");
}

#[test]
fn an_early_answer_is_not_lost_behind_the_reset_that_follows() {
    // It answers at the head and closes with most of the body unread: the kernel resets.
    let backend = server(|mut stream| {
        let response = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
        if stream.read_exact(&mut [0; 64]).is_ok() {
            stream.write_all(response).unwrap();
        }
    });
    let proxy = Proxy::start(outbound(backend), &Options::default());
    for _ in 0..20 {
        let mut client = proxy.connect();
        let head = "POST /up HTTP/1.1\r\nHost: app.example\r\nContent-Length: 8000000\r\n\r\n";
        client.write_all(head.as_bytes()).unwrap();
        let sender = send_all(&client, vec![0; 8_000_000]);
        let mut response = [0; 30];
        client.read_exact(&mut response).unwrap();
        assert_eq!(&response, b"HTTP/1.1 413 Content Too Large");
        drop(client);
        // Whether it got rid of everything is its own affair.
        let _ = sender.join().unwrap();
    }
}

/// A proxy for requests to `app.example`.
fn outbound(backend: SocketAddr) -> Config {
    let app = service("app.example:80".into(), Target::Addr(backend), false);
    Config {
        listeners: vec![Listener {
            addr: "127.0.0.1:0".parse().unwrap(),
            kind: ListenerKind::Outbound,
        }],
        services: vec![app],
        ..Config::default()
    }
}
