//! What the proxy refuses, each with its status and its counter.

use super::{AS_IT_IS, GET, OK, SHORT, Scenario, scenario};
use crate::stage::Stage;

pub(super) const TABLE: &[Scenario] = &[
    scenario("a space before the colon: 400", AS_IT_IS, |s| {
        refuses(s, "GET / HTTP/1.1\r\nHost : app.example\r\n\r\n", 400);
    }),
    scenario("no host: 400", AS_IT_IS, |s| refuses(s, "GET / HTTP/1.1\r\n\r\n", 400)),
    scenario("a length and chunks: 400", AS_IT_IS, |s| {
        let head = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 3\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        refuses(s, head, 400);
    }),
    scenario("two lengths: 400", AS_IT_IS, |s| {
        let head = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 3\r\n\
                    Content-Length: 4\r\n\r\n";
        refuses(s, head, 400);
    }),
    scenario("a bare LF: 400", AS_IT_IS, |s| {
        refuses(s, "GET / HTTP/1.1\r\nHost: app.example\nX: y\r\n\r\n", 400);
    }),
    scenario("a version of the future: 505", AS_IT_IS, |s| {
        refuses(s, "GET / HTTP/3.0\r\nHost: app.example\r\n\r\n", 505);
    }),
    scenario("an unknown coding: 501", AS_IT_IS, |s| {
        let head = "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: rot13\r\n\r\n";
        refuses(s, head, 501);
    }),
    scenario("an unknown expectation: 417", AS_IT_IS, |s| {
        let head = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n\
                    Expect: 200-ok\r\n\r\n";
        refuses(s, head, 417);
    }),
    scenario("an unknown authority: 404", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n");
        s.answer(client, 404);
        // It is no reason to close.
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario(
        "fields past the limit: 431",
        |config| config.limits.header_bytes = 4096,
        |s| {
            let field = format!("X: {}\r\n", "x".repeat(5000));
            refuses(s, &format!("GET / HTTP/1.1\r\nHost: app.example\r\n{field}\r\n"), 431);
        },
    ),
    scenario(
        "fields at the limit pass",
        |config| config.limits.header_bytes = 4096,
        |s| {
            let client = s.client();
            let frame = "GET / HTTP/1.1\r\nHost: app.example\r\nX: \r\n\r\n".len();
            let field = format!("X: {}\r\n", "x".repeat(4096 - frame));
            let request = format!("GET / HTTP/1.1\r\nHost: app.example\r\n{field}\r\n");
            s.send(client, &request);
            let app = s.app(0);
            s.sees(app, &request);
            s.send(app, OK);
            s.sees(client, OK);
        },
    ),
    scenario(
        "a target past the limit: 414",
        |config| config.limits.target_bytes = 1000,
        |s| {
            let target = "x".repeat(1001);
            refuses(s, &format!("GET /{target} HTTP/1.1\r\nHost: app.example\r\n\r\n"), 414);
        },
    ),
    scenario(
        "a head that is not finished in time: 408",
        |config| config.timeouts.header = SHORT,
        |s| refuses(s, "GET / HTTP/1.1\r\nHost: app", 408),
    ),
    scenario(
        "silence between requests ends the connection",
        |config| config.timeouts.keep_alive = SHORT,
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.send(app, OK);
            s.sees(client, OK);
            s.fin(client);
        },
    ),
    scenario(
        "more requests at once than allowed: 503",
        |config| config.limits.in_flight = 1,
        |s| {
            let first = s.client();
            s.send(first, GET);
            let app = s.app(0);
            s.sees(app, GET);
            let second = s.client();
            s.send(second, GET);
            s.answer(second, 503);
            s.send(app, OK);
            s.sees(first, OK);
        },
    ),
    scenario("what is not HTTP and has nowhere to go", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "\x00\x01\x02\x03 this is no HTTP\r\n\r\n");
        s.rst(client);
    }),
    scenario("a client that leaves before it said what it wants", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HT");
        s.finish(client);
        s.fin(client);
    }),
    scenario("a malformed chunk size: 400", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.send(client, "xyz\r\n");
        s.refused(client, 400);
        s.rst(app);
    }),
];

/// A client that sends this gets that, and then the end.
#[track_caller]
fn refuses(s: &mut Stage, request: &str, status: u16) {
    let client = s.client();
    s.send(client, request);
    s.refused(client, status);
}
