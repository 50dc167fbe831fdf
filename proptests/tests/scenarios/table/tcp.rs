//! Opaque connections.

use super::{AS_IT_IS, SHORT, Scenario, pattern, scenario};

const LARGE: usize = 4 << 20;

pub(super) const TABLE: &[Scenario] = &[
    scenario("bytes both ways", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.send(client, "hello");
        s.sees(app, "hello");
        s.send(app, "world");
        s.sees(client, "world");
        s.send(client, [0, 255, 13, 10]);
        s.sees(app, [0, 255, 13, 10]);
        s.finish(client);
        s.fin(app);
        s.finish(app);
        s.fin(client);
    }),
    scenario("the server speaks first", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.send(app, "220 mail.example\r\n");
        s.sees(client, "220 mail.example\r\n");
        s.send(client, "EHLO x\r\n");
        s.sees(app, "EHLO x\r\n");
        s.finish(app);
        s.fin(client);
    }),
    scenario("what looks like a request is not touched", AS_IT_IS, |s| {
        let client = s.tcp_client();
        s.send(client, "GET / HTTP/1.1\r\nHost : x\n\n");
        let app = s.app(0);
        s.sees(app, "GET / HTTP/1.1\r\nHost : x\n\n");
        s.finish(client);
        s.finish(app);
        s.fin(client);
    }),
    scenario("an answer after the client's FIN, without a protocol", AS_IT_IS, |s| {
        let client = s.tcp_client();
        s.send(client, "question");
        s.finish(client);
        let app = s.app(0);
        s.sees(app, "question");
        s.fin(app);
        s.send(app, "answer");
        s.finish(app);
        s.sees(client, "answer");
        s.fin(client);
    }),
    scenario("a question after the server's FIN", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.finish(app);
        s.fin(client);
        s.send(client, "late");
        s.sees(app, "late");
        s.finish(client);
        s.fin(app);
    }),
    scenario("a FIN and nothing else", AS_IT_IS, |s| {
        let client = s.tcp_client();
        s.finish(client);
        let app = s.app(0);
        s.fin(app);
        s.finish(app);
        s.fin(client);
    }),
    scenario("a client's reset is a reset for the server", AS_IT_IS, |s| {
        let client = s.tcp_client();
        s.send(client, "x");
        let app = s.app(0);
        s.sees(app, "x");
        s.reset(client);
        s.rst(app);
    }),
    scenario("a server's reset is a reset for the client", AS_IT_IS, |s| {
        let client = s.tcp_client();
        s.send(client, "x");
        let app = s.app(0);
        s.sees(app, "x");
        s.send(app, "y");
        s.sees(client, "y");
        s.reset(app);
        s.rst(client);
    }),
    scenario("a reset of a half-closed connection", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.finish(client);
        s.fin(app);
        s.reset(app);
        s.rst(client);
    }),
    scenario("much both ways at once", AS_IT_IS, |s| {
        let client = s.tcp_client();
        let app = s.app(0);
        s.send(client, pattern(LARGE));
        s.finish(client);
        s.send(app, pattern(LARGE + 1));
        s.finish(app);
        s.wait(20);
        s.sees(app, pattern(LARGE));
        s.fin(app);
        s.sees(client, pattern(LARGE + 1));
        s.fin(client);
    }),
    scenario(
        "a server that refuses",
        |config| config.timeouts.failfast = SHORT,
        |s| {
            s.refuse(0);
            let client = s.tcp_client();
            s.rst(client);
        },
    ),
    scenario(
        "silence for too long",
        |config| config.timeouts.tcp_idle = SHORT,
        |s| {
            let client = s.tcp_client();
            let app = s.app(0);
            s.send(client, "x");
            s.sees(app, "x");
            s.rst(client);
            s.rst(app);
        },
    ),
    scenario(
        "half-open and silent for too long",
        |config| config.timeouts.half_open = SHORT,
        |s| {
            let client = s.tcp_client();
            let app = s.app(0);
            s.finish(client);
            s.fin(app);
            s.rst(client);
        },
    ),
];
