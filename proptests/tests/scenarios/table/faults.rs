//! Peers that break off, at every point of an exchange.

use super::{AS_IT_IS, GET, OK, SHORT, Scenario, scenario};

const POST: &str = "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\r\nbody";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.";

pub(super) const TABLE: &[Scenario] = &[
    scenario(
        "an endpoint that refuses: 504 after failfast",
        |config| config.timeouts.failfast = SHORT,
        |s| {
            s.refuse(0);
            let client = s.client();
            s.send(client, GET);
            s.answer(client, 504);
            // At once now.
            s.send(client, GET);
            s.answer(client, 504);
        },
    ),
    scenario("one of two endpoints refuses", AS_IT_IS, |s| {
        s.refuse(1);
        let client = s.client();
        let request = "GET / HTTP/1.1\r\nHost: two.example\r\n\r\n";
        s.send(client, request);
        let app = s.app(2);
        for _ in 0..5 {
            s.sees(app, request);
            s.send(app, OK);
            s.sees(client, OK);
            s.send(client, request);
        }
        s.sees(app, request);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("an app that closes without an answer: 502", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.close(app);
        s.answer(client, 502);
    }),
    scenario("an app that resets without an answer: 502", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.reset(app);
        s.answer(client, 502);
    }),
    scenario("an app that closes in mid-head: 502", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 200 OK\r\nContent-Le");
        s.close(app);
        s.answer(client, 502);
    }),
    scenario("an app that resets in mid-head: 502", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 200 OK\r\nContent-Le");
        s.reset(app);
        s.answer(client, 502);
    }),
    scenario("an app that closes in mid-body cuts the answer visibly", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, HALF);
        s.sees(client, HALF);
        s.close(app);
        s.fin(client);
    }),
    scenario("an app that resets in mid-body cuts the answer visibly", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, HALF);
        s.sees(client, HALF);
        s.reset(app);
        s.fin(client);
    }),
    scenario("an app that closes between chunks cuts the answer visibly", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "3\r\nabc\r\n");
        s.close(app);
        s.fin(client);
    }),
    scenario("an answer without a length that is cut ends with a reset", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 200 OK\r\n\r\nhalf.");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "half.");
        s.reset(app);
        s.rst(client);
    }),
    scenario("chunks for http/1.0 that are cut end with a reset", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HTTP/1.0\r\nHost: app.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "GET / HTTP/1.");
        s.send(app, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "abc");
        s.close(app);
        s.rst(client);
    }),
    scenario("an answer that is no HTTP: 502", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "SSH-2.0-OpenSSH\r\n");
        s.answer(client, 502);
        s.rst(app);
    }),
    scenario("a client that resets in mid-body", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 10\r\n\r\nhalf.");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.sees(app, "half.");
        s.reset(client);
        s.rst(app);
    }),
    scenario("a client that closes in mid-body", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 10\r\n\r\nhalf.");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.sees(app, "half.");
        s.close(client);
        s.rst(app);
    }),
    scenario("a client that resets while it waits", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.reset(client);
        s.rst(app);
    }),
    scenario("a client that resets in mid-answer", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, HALF);
        s.sees(client, HALF);
        s.reset(client);
        s.rst(app);
    }),
    scenario("an app that answers before the body is there", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 10\r\n\r\nhalf.");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.sees(app, "half.");
        s.send(app, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
        s.close(app);
        assert_eq!(s.answer(client, 413), "big");
    }),
    scenario("a dead pooled connection: get is sent again", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let first = s.app(0);
        s.sees(first, GET);
        s.send(first, OK);
        s.sees(client, OK);
        s.send(client, GET);
        s.sees(first, GET);
        s.close(first);
        let second = s.app(0);
        s.sees(second, GET);
        s.send(second, OK);
        s.sees(client, OK);
    }),
    scenario("a dead pooled connection: post is not sent again", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
        s.send(client, POST);
        s.sees(app, POST);
        s.close(app);
        s.answer(client, 502);
    }),
    scenario("a pooled connection that the app closed is not used", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let first = s.app(0);
        s.sees(first, GET);
        s.send(first, OK);
        s.sees(client, OK);
        s.close(first);
        s.counted("the pool to be empty", |snapshot| snapshot.gauges.connections == 1);
        s.send(client, POST);
        let second = s.app(0);
        s.sees(second, POST);
        s.send(second, OK);
        s.sees(client, OK);
    }),
    scenario(
        "an answer that does not begin in time: 504",
        |config| config.timeouts.response_headers = Some(SHORT),
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.answer(client, 504);
            s.rst(app);
        },
    ),
    scenario(
        "an answer that is not whole in time is cut",
        |config| config.timeouts.request = Some(SHORT),
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.send(app, HALF);
            s.sees(client, HALF);
            s.fin(client);
            s.rst(app);
        },
    ),
    scenario(
        "an exchange on which nothing moves: 504",
        |config| config.timeouts.idle = Some(SHORT),
        |s| {
            let client = s.client();
            s.send(client, GET);
            let app = s.app(0);
            s.sees(app, GET);
            s.answer(client, 504);
            s.rst(app);
        },
    ),
];
