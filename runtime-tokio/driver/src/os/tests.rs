use std::net::TcpListener;

use super::*;

#[test]
fn connect_errors() {
    for (number, expected) in [
        (libc::ECONNREFUSED, ConnectError::Refused),
        (libc::ECONNRESET, ConnectError::Refused),
        (libc::EHOSTUNREACH, ConnectError::Unreachable),
        (libc::ENETUNREACH, ConnectError::Unreachable),
        (libc::EPERM, ConnectError::Unreachable),
        (libc::EAFNOSUPPORT, ConnectError::Unreachable),
        (libc::ETIMEDOUT, ConnectError::TimedOut),
        (libc::EMFILE, ConnectError::Local),
        (libc::ENFILE, ConnectError::Local),
        (libc::ENOBUFS, ConnectError::Local),
        (libc::ENOMEM, ConnectError::Local),
        (libc::EADDRNOTAVAIL, ConnectError::Local),
        (libc::EAGAIN, ConnectError::Local),
    ] {
        let error = io::Error::from_raw_os_error(number);
        assert_eq!(connect_error(&error), expected, "{error}");
    }
}

#[test]
fn io_errors() {
    for (number, expected) in [
        (libc::ECONNRESET, IoError::Reset),
        (libc::EPIPE, IoError::Reset),
        (libc::ETIMEDOUT, IoError::TimedOut),
        (libc::EHOSTUNREACH, IoError::Other),
    ] {
        let error = io::Error::from_raw_os_error(number);
        assert_eq!(io_error(&error), expected, "{error}");
    }
}

#[test]
fn accept_errors_that_are_about_the_listener_need_a_pause() {
    for number in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EBADF] {
        let error = io::Error::from_raw_os_error(number);
        assert!(!is_about_one_connection(&error), "{error}");
    }
    for number in [libc::ECONNABORTED, libc::EPROTO, libc::EINTR, libc::EPERM] {
        let error = io::Error::from_raw_os_error(number);
        assert!(is_about_one_connection(&error), "{error}");
    }
}

#[test]
fn mapped_addresses_are_unwrapped() {
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    assert_eq!(canonical(addr("[::ffff:10.0.0.1]:80")), addr("10.0.0.1:80"));
    assert_eq!(canonical(addr("[fe80::1%3]:80")), addr("[fe80::1%3]:80"));
    assert_eq!(canonical(addr("10.0.0.1:80")), addr("10.0.0.1:80"));
}

#[test]
fn a_connection_that_was_not_redirected_has_no_other_destination() {
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(listen) else {
            // No v6 on this machine.
            assert!(listen.starts_with('['));
            continue;
        };
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let local = local_addr(&accepted).unwrap();
        let original = original_dst(&accepted, peer);
        assert_eq!(local, listener.local_addr().unwrap());
        // With connection tracking the kernel knows it; without, there is nothing to know.
        assert!(original.is_none_or(|addr| addr == local), "{original:?}");
    }
}

#[test]
fn a_socket_connected_to_itself_was_refused() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.connect(&socket.local_addr().unwrap()).unwrap();
    let error = connect_result(&socket).unwrap_err();
    assert_eq!(connect_error(&error), ConnectError::Refused);
}

#[test]
fn two_seeds_differ() {
    assert_ne!(seed().unwrap(), seed().unwrap());
}
