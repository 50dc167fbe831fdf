//! HTTP through the adapter.

mod common;

use std::io::{BufRead, BufReader, Read, Write};

use common::{Proxy, server, service};
use selvedge_core::config::{Config, Listener, ListenerKind, Target};
use selvedge_tokio::Options;

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
    let config = Config {
        listeners: vec![Listener {
            addr: "127.0.0.1:0".parse().unwrap(),
            kind: ListenerKind::Outbound,
        }],
        services: vec![service("app.example:80".into(), Target::Addr(backend), false)],
        ..Config::default()
    };
    let proxy = Proxy::start(config, &Options::default());
    let mut client = proxy.connect();
    client
        .write_all(b"GET /path HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nhello"), "{response}");
}
