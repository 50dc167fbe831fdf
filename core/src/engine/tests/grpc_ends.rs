//! How a gRPC call that has begun ends, and what its client is told of that.

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::http2::ErrorCode;
use crate::time::Duration;

/// A call that ends in its middle: found with grpcio, which took a timeout of ours for a cancel of its own.
#[test]
fn a_call_that_began_is_told_how_it_ended() {
    const CALL: &str = "POST /a/b HTTP/1.1\r\nHost: h2.example\r\nContent-Type: application/grpc\r\n\
                        Content-Length: 0\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n";
    // What the call gets, beside five bytes of a body: trailers or a reset.
    let late = "grpc-status: 4\r\ngrpc-message: request timed out\r\nl5d-proxy-error: request timed out\r\n";
    let lost = "grpc-status: 14\r\ngrpc-message: response body cut short\r\n\
                l5d-proxy-error: response body cut short\r\n";
    let cancel = Some(ErrorCode::CANCEL);
    let plain = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";
    let long = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 9\r\n";
    for (head, end, trailers, reset) in [
        (ANSWER, "time", Some(late), None),
        (ANSWER, "lost", Some(lost), None),
        // Its own word stays its own.
        (ANSWER, "reset", None, Some(ErrorCode(0xf00))),
        // A client that does not read would be told too late.
        (ANSWER, "stalled", None, cancel),
        // What is no call, and what was announced to be longer, is cut.
        (plain, "time", None, cancel),
        (plain, "lost", None, Some(ErrorCode::INTERNAL_ERROR)),
        (long, "lost", None, Some(ErrorCode::INTERNAL_ERROR)),
    ] {
        let mut config = http2_config();
        config.timeouts.request = Some(Duration::from_secs(2));
        let mut rig = Rig::with(config);
        let stalls = end == "stalled";
        let mut client =
            if stalls { Peer::stalled_client(&mut rig) } else { Peer::client(&mut rig) };
        client.ask(&mut rig, CALL, true);
        let mut app = Peer::endpoint(&mut rig);
        app.answer(&mut rig, 1, &alloc::format!("{head}\r\n"), false);
        app.send(&mut rig, 1, b"12345", false);
        client.run(&mut rig);
        match end {
            "lost" => rig.eof(app.conn),
            "reset" => app.reset(&mut rig, 1, ErrorCode(0xf00)),
            _ => rig.pass(Duration::from_secs(2)),
        }
        client.run(&mut rig);
        let got = client.on(1);
        let said = got.trailers.as_deref().map(|text| text.trim_end_matches("\r\n"));
        assert_eq!(said, trailers.map(|text| text.trim_end_matches("\r\n")), "{head} {end}");
        assert_eq!((got.end, got.reset), (trailers.is_some(), reset), "{head} {end}");
        assert_eq!(got.body.len(), if stalls { 1 } else { 5 }, "{head} {end}");
        assert_eq!(rig.engine.gauges().exchanges, 0);
        if matches!(end, "time" | "stalled") {
            app.run(&mut rig);
            assert_eq!(app.on(1).reset, cancel, "the endpoint learns of it at once");
        }
    }
}
