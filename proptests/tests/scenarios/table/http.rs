//! Requests and answers as they should be.

use super::{AS_IT_IS, GET, OK, Scenario, pattern, scenario};

const LARGE: usize = 4 << 20;

pub(super) const TABLE: &[Scenario] = &[
    scenario("get", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("inbound goes to the app", AS_IT_IS, |s| {
        let client = s.inbound_client();
        s.send(client, "GET /in HTTP/1.1\r\nHost: whatever.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "GET /in HTTP/1.1\r\n");
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("requests share connections", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        for _ in 0..3 {
            s.sees(app, GET);
            s.send(app, OK);
            s.sees(client, OK);
            s.send(client, GET);
        }
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
        let another = s.client();
        s.send(another, GET);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(another, OK);
    }),
    scenario("a head in pieces", AS_IT_IS, |s| {
        let client = s.client();
        for piece in GET.as_bytes().chunks(7) {
            s.send(client, piece);
        }
        let app = s.app(0);
        s.sees(app, GET);
        for piece in OK.as_bytes().chunks(5) {
            s.send(app, piece);
        }
        s.sees(client, OK);
    }),
    scenario("post with a length", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 10\r\n\r\n01234");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.sees(app, "01234");
        s.send(client, "56789");
        s.sees(app, "56789");
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("chunks both ways", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        s.send(client, "5\r\nhello\r\n0\r\n\r\n");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.sees(app, "5\r\nhello\r\n0\r\n\r\n");
        s.send(app, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.send(app, "3\r\nabc\r\n");
        s.sees(client, "3\r\nabc\r\n");
        s.send(app, "0\r\n\r\n");
        s.sees(client, "0\r\n\r\n");
    }),
    scenario("trailers both ways", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "POST / HTTP/1.1\r\nHost: app.example\r\nTE: trailers\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
        s.send(client, "1\r\nx\r\n0\r\nSum: 1\r\nHost: evil.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        // What frames or routes does not travel in a trailer.
        s.sees(app, "1\r\nx\r\n0\r\nSum: 1\r\n\r\n");
        s.send(app, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        s.send(app, "1\r\ny\r\n0\r\nStatus: 0\r\n\r\n");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "1\r\ny\r\n0\r\nStatus: 0\r\n\r\n");
    }),
    scenario("head has a length and no body", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "HEAD / HTTP/1.1\r\nHost: app.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "HEAD / HTTP/1.1\r\n");
        s.send(app, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
        s.sees(client, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
        s.send(client, GET);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("204 and 304 have no body", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        for head in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        ] {
            s.sees(app, GET);
            s.send(app, head);
            s.sees(client, head);
            s.send(client, GET);
        }
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("pipelined requests are answered in order", AS_IT_IS, |s| {
        let client = s.client();
        for path in ["a", "b", "c"] {
            s.send(client, format!("GET /{path} HTTP/1.1\r\nHost: app.example\r\n\r\n"));
        }
        let app = s.app(0);
        for path in ["a", "b", "c"] {
            s.head(app, &format!("GET /{path} HTTP/1.1\r\n"));
            s.send(app, OK.replace("ok", &format!("{path}!")));
        }
        for path in ["a", "b", "c"] {
            assert_eq!(s.answer(client, 200), format!("{path}!"));
        }
    }),
    scenario("connection close ends it after the answer", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n");
        let app = s.app(0);
        s.head(app, "GET / HTTP/1.1\r\n");
        s.send(app, OK);
        assert_eq!(s.answer(client, 200), "ok");
        s.fin(client);
    }),
    scenario("100-continue is passed on", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "PUT / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\
             Expect: 100-continue\r\n\r\n",
        );
        let app = s.app(0);
        let head = s.head(app, "PUT / HTTP/1.1\r\n");
        assert!(head.to_lowercase().contains("expect: 100-continue\r\n"), "{head}");
        s.send(app, "HTTP/1.1 100 Continue\r\n\r\n");
        s.sees(client, "HTTP/1.1 100 Continue\r\n\r\n");
        s.send(client, "body");
        s.sees(app, "body");
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("103 is passed on before the answer", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        s.sees(client, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("expect refused by the app without a body", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "PUT / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 4\r\n\
             Expect: 100-continue\r\n\r\n",
        );
        let app = s.app(0);
        s.head(app, "PUT / HTTP/1.1\r\n");
        s.send(app, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!(s.answer(client, 401), "no");
    }),
    scenario("http/1.0 closes", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HTTP/1.0\r\nHost: app.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "GET / HTTP/1.");
        s.send(app, OK);
        s.answer(client, 200);
        s.fin(client);
    }),
    scenario("http/1.0 keeps alive when asked", AS_IT_IS, |s| {
        let client = s.client();
        let request = "GET / HTTP/1.0\r\nHost: app.example\r\nConnection: keep-alive\r\n\r\n";
        s.send(client, request);
        let app = s.app(0);
        for _ in 0..2 {
            s.head(app, "GET / HTTP/1.");
            s.send(app, OK);
            s.answer(client, 200);
            s.send(client, request);
        }
        s.head(app, "GET / HTTP/1.");
        s.send(app, OK);
        s.answer(client, 200);
    }),
    scenario("http/1.0 gets chunks without their framing", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "GET / HTTP/1.0\r\nHost: app.example\r\n\r\n");
        let app = s.app(0);
        s.head(app, "GET / HTTP/1.");
        s.send(app, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "abc");
        s.fin(client);
    }),
    scenario("an answer that ends with its connection", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, "HTTP/1.1 200 OK\r\n\r\nuntil ");
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.sees(client, "until ");
        s.send(app, "the end");
        s.close(app);
        s.sees(client, "the end");
        s.fin(client);
    }),
    scenario("a large answer for a slow reader", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
        s.send(app, pattern(LARGE));
        s.head(client, "HTTP/1.1 200 OK\r\n");
        s.wait(20);
        s.sees(client, pattern(LARGE));
        s.send(client, GET);
        s.sees(app, GET);
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("a large upload to a slow app", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            format!("POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: {LARGE}\r\n\r\n"),
        );
        s.send(client, pattern(LARGE));
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        s.wait(20);
        s.sees(app, pattern(LARGE));
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("a large body in chunks", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let chunk = [&b"10000\r\n"[..], &pattern(0x10000), b"\r\n"].concat();
        let app = s.app(0);
        s.head(app, "POST / HTTP/1.1\r\n");
        for _ in 0..8 {
            s.send(client, &chunk);
        }
        s.send(client, "0\r\n\r\n");
        s.chunks(app, &pattern(0x10000).repeat(8));
        s.send(app, OK);
        s.sees(client, OK);
    }),
    scenario("an answer after the client's FIN", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, GET);
        s.finish(client);
        let app = s.app(0);
        s.sees(app, GET);
        s.send(app, OK);
        assert_eq!(s.answer(client, 200), "ok");
        s.fin(client);
    }),
    scenario("an upgrade is a tunnel", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "GET /chat HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
        );
        let app = s.app(0);
        let head = s.head(app, "GET /chat HTTP/1.1\r\n").to_lowercase();
        assert!(head.contains("upgrade: websocket\r\n"), "{head}");
        s.send(
            app,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n\x01\x02",
        );
        s.head(client, "HTTP/1.1 101 ");
        s.sees(client, "\x01\x02");
        s.send(client, "ping");
        s.sees(app, "ping");
        s.send(app, "pong");
        s.sees(client, "pong");
        s.finish(client);
        s.fin(app);
        s.send(app, "bye");
        s.finish(app);
        s.sees(client, "bye");
        s.fin(client);
    }),
    scenario("an upgrade that the app declines", AS_IT_IS, |s| {
        let client = s.client();
        s.send(
            client,
            "GET /chat HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
        );
        let app = s.app(0);
        s.head(app, "GET /chat HTTP/1.1\r\n");
        s.send(app, OK);
        s.answer(client, 200);
        s.send(client, GET);
        s.sees(app, GET);
        s.send(app, OK);
        s.answer(client, 200);
    }),
    scenario("connect to a service is a tunnel", AS_IT_IS, |s| {
        let client = s.client();
        s.send(client, "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example:80\r\n\r\n");
        let app = s.app(0);
        s.head(client, "HTTP/1.1 200 ");
        s.send(client, "hello");
        s.sees(app, "hello");
        s.send(app, "world");
        s.sees(client, "world");
        s.finish(app);
        s.fin(client);
        s.finish(client);
        s.fin(app);
    }),
];
