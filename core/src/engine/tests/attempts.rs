//! What answers say about attempts, where a route asks for that.

use alloc::format;

use super::http2_rig::{Peer, http2_config};
use super::rig::*;
use crate::config::Config;
use crate::policy::{Retry, Route, RouteTable};

const BUSY: &str = "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
/// An endpoint's own field of that name means nothing here.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nL5d-Attempt-Count: 99\r\n\r\n";

fn rig(report: bool) -> Rig {
    let route = |service: &str| {
        let retry = Retry {
            statuses: [(503, 503)].into(),
            reset: true,
            limit: 1,
            report,
            ..Retry::default()
        };
        Route { service: service.into(), retry: Some(retry), ..Route::default() }
    };
    let names = ["web.example:80", "two.example:80"];
    Rig::with(Config { routes: RouteTable::new(names.map(route).into()), ..http2_config() })
}

#[test]
fn an_answer_says_how_often_its_request_was_sent() {
    for (answers, said) in [
        (&[OK][..], "1\r\n"),
        (&[BUSY, OK][..], "2\r\n"),
        (&[BUSY, BUSY][..], "2;outcome=retry_limit\r\n"),
        (&["", ""][..], "2;outcome=retry_limit\r\n"),
    ] {
        for report in [true, false] {
            let mut rig = rig(report);
            let down = rig.client();
            rig.receive(down, b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n");
            for answer in answers {
                rig.pass(millis(250));
                let up = rig.connect();
                if answer.is_empty() {
                    rig.reset(up);
                } else {
                    rig.receive(up, answer.as_bytes());
                }
            }
            let text = rig.written(down).to_lowercase();
            assert!(text.starts_with("http/1.1 "), "{answers:?}: {text}");
            let counts = text.matches("l5d-attempt-count: ").count();
            if report {
                let field = format!("l5d-attempt-count: {said}");
                assert!(text.contains(&field) && counts == 1, "{answers:?}: {text}");
            } else {
                // It is the endpoint's own.
                assert_eq!(counts, usize::from(answers.ends_with(&[OK])), "{text}");
            }
        }
    }
}

#[test]
fn a_stream_is_told_the_same() {
    let mut rig = rig(true);
    let mut client = Peer::client(&mut rig);
    let get = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";
    let stream = client.ask(&mut rig, get, true);
    let mut app = Peer::endpoint(&mut rig);
    app.answer(&mut rig, 1, BUSY, true);
    rig.pass(millis(250));
    let mut other = Peer::endpoint(&mut rig);
    other.answer(&mut rig, 1, "HTTP/1.1 200 OK\r\n\r\n", true);
    client.run(&mut rig);
    assert_eq!(client.head(stream), "HTTP/1.1 200 OK\r\nl5d-attempt-count: 2\r\n\r\n");
}
