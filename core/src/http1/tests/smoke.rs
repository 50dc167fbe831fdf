use super::*;
use crate::http::Version;
use std::vec;

#[test]
fn a_request_goes_on_without_what_is_for_one_hop() {
    let got = forwarded(
        b"\r\nPOST http://a.example/x?y HTTP/1.1\r\nAccept: */*\r\nHost: b.example\r\nConnection: close, X-Hop\r\nx-hop: 1\r\nCookie:  a=b \r\nTransfer-Encoding: Chunked\r\nUser-Agent: t\r\n\r\n",
    );
    assert_eq!(
        got,
        "POST /x?y HTTP/1.1\r\nAccept: */*\r\nHost: a.example\r\nCookie: a=b\r\nTransfer-Encoding: chunked\r\nUser-Agent: t\r\n\r\n"
    );
}

#[test]
fn a_response_is_parsed_and_goes_on() {
    let bytes = b"HTTP/1.0 200 Fine\r\nServer: x\r\nConnection: close\r\n\r\n";
    assert_eq!(scan(bytes, HeadKind::Response), Ok(Some(bytes.len())));
    let mut scratch = Scratch::default();
    let response =
        parse_response(bytes, &mut scratch, &Limits::default(), ResponseTo::default()).unwrap();
    assert_eq!(response.framing, Framing::UntilClose);
    let mut out = BytesMut::new();
    let rewrite = ResponseRewrite {
        client: Version::Http11,
        connection: ConnectionOption::Nothing,
        framing: Framing::Chunked,
    };
    encode_response(&mut out, &response, &rewrite);
    assert_eq!(&out[..], b"HTTP/1.1 200 Fine\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn chunks_and_trailers_are_decoded() {
    let limits = Limits::default();
    let mut buf = BytesMut::from(&b"3;a=\"b\"\r\nabc\r\n0\r\nX: y\r\nHost: z\r\n\r\nrest"[..]);
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let mut body = vec![];
    loop {
        match decoder.decode(&mut buf, &limits).unwrap() {
            Body::Data(n) => body.extend_from_slice(&buf.split_to(n)),
            Body::Trailers(n) => {
                let mut out = BytesMut::new();
                assert_eq!(encode_last_chunk(&mut out, &buf.split_to(n)), Ok(1));
                assert_eq!(&out[..], b"0\r\nX: y\r\n\r\n");
            }
            Body::End => break,
            Body::NeedMore => panic!("all is there"),
        }
    }
    assert_eq!((&body[..], &buf[..]), (&b"abc"[..], &b"rest"[..]));
    assert_eq!(refused(b"GET / HTTP/2.0\r\n"), Some(Reason::Version));
}
