use std::net::TcpStream;

use selvedge_core::config::{Listener, ListenerKind};
use socket2::SockRef;

use super::*;

fn config(addr: SocketAddr) -> Config {
    Config { listeners: vec![Listener { addr, kind: ListenerKind::Outbound }], ..Config::default() }
}

fn bind(config: &Config, options: &Options) -> Result<Bound<()>, BindError> {
    Bound::open(config, options)
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn an_error_names_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for workers in [1, 2] {
        let options = Options { workers, ..Options::default() };
        let error = bind(&config(addr), &options).unwrap_err();
        assert_eq!(error.addr, addr);
        let text = error.to_string();
        assert!(text.starts_with(&format!("cannot listen on {addr}: ")), "{text}");
    }
}

#[test]
fn workers_share_the_port_that_the_first_got() {
    let options = Options { workers: 3, ..Options::default() };
    let bound = bind(&config(any()), &options).unwrap();
    let addr = bound.local_addrs()[0];
    assert_ne!(addr.port(), 0);
    assert_eq!(bound.listeners.len(), 3);
    for sockets in &bound.listeners {
        assert_eq!(sockets[0].local_addr().unwrap(), addr);
    }
    // But another proxy does not get a share.
    assert!(bind(&config(addr), &options).is_err());
}

#[test]
fn accepted_sockets_have_the_options_of_their_listener() {
    let options = Options {
        keepalive: Some(Duration::from_secs(7)),
        user_timeout: Some(Duration::from_secs(9)),
        ..Options::default()
    };
    let bound = bind(&config(any()), &options).unwrap();
    let _client = TcpStream::connect(bound.local_addrs()[0]).unwrap();
    // Who has connected may not be there yet.
    bound.listeners[0][0].set_nonblocking(false).unwrap();
    let (accepted, _) = bound.listeners[0][0].accept().unwrap();
    let socket = SockRef::from(&accepted);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(9)));
}
