use super::*;

fn encoded(trailers: &[u8]) -> Result<(usize, String), Reason> {
    let mut out = BytesMut::from(&b"before"[..]);
    let dropped = encode_last_chunk(&mut out, trailers);
    assert!(out.starts_with(b"before"));
    let written = String::from_utf8_lossy(&out[6..]).into_owned();
    match dropped {
        Ok(dropped) => Ok((dropped, written)),
        Err(reason) => {
            assert_eq!(written, "", "nothing is written of what is refused");
            Err(reason)
        }
    }
}

#[test]
fn trailers_go_on_but_for_what_frames_or_routes() {
    for (trailers, dropped, expected) in [
        ("", 0, "0\r\n\r\n"),
        ("\r\n", 0, "0\r\n\r\n"),
        ("grpc-status: 0\r\n\r\n", 0, "0\r\ngrpc-status: 0\r\n\r\n"),
        ("X:y\r\nZ: \t a b \r\nEmpty:\r\n\r\n", 0, "0\r\nX: y\r\nZ: a b\r\nEmpty: \r\n\r\n"),
        ("Content-Length: 5\r\nX: y\r\nhost: a\r\n\r\n", 2, "0\r\nX: y\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n\r\n", 1, "0\r\n\r\n"),
        ("Connection: X\r\nTE: a\r\nUpgrade: b\r\nTrailer: X\r\n\r\n", 4, "0\r\n\r\n"),
        ("Authorization: x\r\nSet-Cookie: y\r\nRange: z\r\n\r\n", 3, "0\r\n\r\n"),
    ] {
        assert_eq!(encoded(trailers.as_bytes()), Ok((dropped, expected.into())), "{trailers}");
    }
}

#[test]
fn malformed_trailers_are_refused_whole() {
    for line in ["X", ": y", "X : y", "X y: z", "X(: y", "\u{fc}: y", "X: \u{7f}", "X: \x01"] {
        let section = format!("Good: yes\r\n{line}\r\n\r\n");
        assert_eq!(encoded(section.as_bytes()), Err(Reason::Trailers), "{line}");
    }
}

#[test]
fn the_grpc_status_is_found() {
    for (trailers, expected) in [
        ("", None),
        ("\r\n", None),
        ("grpc-status: 0\r\n\r\n", Some(0)),
        ("X: y\r\nGrpc-Status:14 \r\n\r\n", Some(14)),
        ("grpc-status-details-bin: 5\r\ngrpc-status: 7\r\n\r\n", Some(7)),
        ("grpc-status-details-bin: 5\r\n\r\n", None),
        ("grpc-status: x\r\n\r\n", None),
        ("grpc-status:\r\n\r\n", None),
        ("grpc-status\r\n\r\n", None),
        ("X: grpc-status: 5\r\n\r\n", None),
        ("grpc-status: 65536\r\n\r\n", None),
    ] {
        assert_eq!(trailer_grpc_status(trailers.as_bytes()), expected, "{trailers}");
    }
}
