use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, ConnId, Direction, Engine};
use selvedge_core::error::{DnsError, Reason};
use selvedge_core::identity::Name;
use selvedge_core::policy::retry::Failed;
use selvedge_core::rng::Seed;
use selvedge_core::stats::Decision;
use selvedge_core::time::{Time, UnixTime};
use selvedge_core::tls::{Failure, Side};

use super::*;

/// The lines that `write` logs, without their times, and with `CONN` for [`conn`].
fn lines(format: Format, write: impl FnOnce(&Log)) -> Vec<String> {
    let (log, receiver) = Log::new();
    let subscriber = subscriber("trace".parse().unwrap(), format, log.clone());
    tracing::subscriber::with_default(subscriber, || write(&log));
    drop(log);
    let mut text = Vec::new();
    Log::new().0.write(&receiver, &mut text);
    let text = String::from_utf8(text).unwrap();
    let line = |line: &str| {
        let line = line.replace(&format!("{:?}", conn()), "CONN");
        match format {
            Format::Plain => line.split_once("Z ").unwrap().1.trim_start().to_owned(),
            Format::Json => format!("{{{}", line.split_once("Z\",").unwrap().1),
        }
    };
    text.lines().map(line).collect()
}

/// Only an engine makes ids.
fn conn() -> ConnId {
    let addr = ([127, 0, 0, 1], 4140).into();
    let listeners = vec![Listener { addr, kind: ListenerKind::Outbound }];
    let config = Arc::new(Config { listeners, ..Config::default() });
    let mut engine = Engine::new(config, Seed::from_number(0), Time::ZERO);
    let peer = ([127, 0, 0, 1], 50000).into();
    let accepted = Accepted { listener: 0, peer, local: addr, original_dst: None };
    engine.accept(Time::ZERO, accepted).unwrap()
}

fn refused(reason: Reason, service: Option<&str>) -> Event {
    Event::Refused {
        conn: conn(),
        direction: Direction::Outbound,
        peer: ([127, 0, 0, 1], 50000).into(),
        reason,
        service: service.map(Into::into),
        authority: (reason == Reason::UnknownAuthority).then(|| "nobody:80".into()),
    }
}

fn up() -> Event {
    Event::EndpointUp { service: "web:80".into(), addr: ([10, 0, 0, 1], 80).into() }
}

#[test]
fn a_refusal_says_why() {
    let plain = lines(Format::Plain, |log| log.event(&refused(Reason::BareLf, None)));
    assert_eq!(
        plain,
        [concat!(
            "INFO selvedge::log: refused: line ends in a bare LF status=400 ",
            r#"reason="bare_lf" direction="outbound" peer=127.0.0.1:50000 conn=CONN"#,
        )]
    );
    let unknown = refused(Reason::UnknownAuthority, None);
    assert_eq!(
        lines(Format::Plain, |log| log.event(&unknown)),
        [concat!(
            "INFO selvedge::log: refused: no service has this authority status=404 ",
            r#"reason="unknown_authority" direction="outbound" peer=127.0.0.1:50000 "#,
            r#"authority="nobody:80" conn=CONN"#,
        )]
    );
    let json = lines(Format::Json, |log| log.event(&refused(Reason::Failfast, Some("web:80"))));
    assert_eq!(
        json,
        [concat!(
            r#"{"level":"WARN","message":"failed: no endpoint ready: service in fail-fast","#,
            r#""status":504,"reason":"failfast","direction":"outbound","peer":"127.0.0.1:50000","#,
            r#""service":"web:80","conn":"CONN","target":"selvedge::log"}"#,
        )]
    );
}

#[test]
fn a_failed_attempt_is_one_line_that_says_what_became_of_it() {
    let wait = Duration::from_millis(100);
    for (decision, expected) in [
        (
            Decision::Retried,
            "DEBUG selvedge::log: retry 1 of 2, 10.0.0.1:80 failed: status 503 after 100ms service=web:80 wait=100ms",
        ),
        (
            Decision::RetryBudget,
            r#"DEBUG selvedge::log: no retry, 10.0.0.1:80 failed: status 503 after 100ms service=web:80 reason="retry_budget""#,
        ),
    ] {
        let event = Event::Retry {
            service: "web:80".into(),
            addr: Some(([10, 0, 0, 1], 80).into()),
            failed: Failed::Status(503),
            took: wait,
            decision,
            nth: 1,
            limit: 2,
            wait,
        };
        assert_eq!(lines(Format::Plain, |log| log.event(&event)), [expected]);
    }
}

#[test]
fn every_other_event_is_one_line() {
    let service: Arc<str> = "web:80".into();
    let addr = ([10, 0, 0, 1], 80).into();
    let retry_in = Duration::from_millis(100);
    let reason = Reason::ConnectFailed;
    let (name, not_after) = (Name::parse("web.ns").unwrap(), UnixTime::from_secs(9));
    let (direction, conn) = (Direction::Inbound, conn());
    for (event, expected) in [
        (
            Event::Closed { conn, direction, peer: addr, reason: Reason::TcpIdle },
            r#"INFO selvedge::log: closed: TCP connection idle for too long reason="tcp_idle" direction="inbound" peer=10.0.0.1:80 conn=CONN"#,
        ),
        (
            Event::UnknownServerName { conn, direction, peer: addr, name: "db.example".into() },
            r#"WARN selvedge::log: closed: no service has this TLS server name reason="unknown_server_name" direction="inbound" peer=10.0.0.1:80 server_name=db.example conn=CONN"#,
        ),
        (
            Event::EndpointDown { service: service.clone(), addr, reason, retry_in },
            r#"WARN selvedge::log: endpoint down: connection to the endpoint failed service=web:80 addr=10.0.0.1:80 reason="connect_failed" retry_in=100ms"#,
        ),
        (up(), "INFO selvedge::log: endpoint up service=web:80 addr=10.0.0.1:80"),
        (
            Event::FailfastEntered { service: service.clone(), failed: 3 },
            "WARN selvedge::log: no endpoint ready: requests fail at once service=web:80 failed=3",
        ),
        (
            Event::FailfastLeft { service },
            "INFO selvedge::log: an endpoint is ready again service=web:80",
        ),
        (
            Event::ResolveFailed { name: "web.local".into(), error: DnsError::NotFound, retry_in },
            "WARN selvedge::log: cannot resolve; the last good answer stays name=web.local error=NotFound retry_in=100ms",
        ),
        (
            Event::TlsEstablished {
                conn,
                direction,
                peer: addr,
                session: tls::Peer {
                    identity: Some(name.clone()),
                    version: "TLSv1.3",
                    group: "x25519",
                    suite: "TLS_AES_128_GCM_SHA256",
                    ..tls::Peer::default()
                },
            },
            r#"DEBUG selvedge::log: TLS session identity="web.ns" version="TLSv1.3" group="x25519" suite="TLS_AES_128_GCM_SHA256" direction="inbound" peer=10.0.0.1:80 conn=CONN"#,
        ),
        (
            Event::TlsFailed {
                conn,
                direction,
                side: Side::Server,
                peer: addr,
                name: Some("web.ns".into()),
                problem: Failure::UnknownIssuer.into(),
            },
            r#"WARN selvedge::log: TLS: certificate is not from a trusted issuer failure="unknown_issuer" side="server" name="web.ns" direction="inbound" peer=10.0.0.1:80 conn=CONN"#,
        ),
        (
            Event::Certified { name: name.clone(), not_after, renew_in: retry_in },
            "INFO selvedge::log: certified name=web.ns not_after=9 renew_in=100ms",
        ),
        (
            Event::CertifyFailed { error: "no".into(), retry_in },
            "WARN selvedge::log: no certificate: no retry_in=100ms",
        ),
        (
            Event::Uncertified { name },
            "WARN selvedge::log: no valid certificate: nothing meshed is served name=web.ns",
        ),
        (
            Event::Reloaded { services: 2 },
            "DEBUG selvedge::log: worker: new configuration in effect services=2",
        ),
        (Event::Draining, "DEBUG selvedge::log: worker: draining"),
        (Event::Drained, "DEBUG selvedge::log: worker: drained"),
    ] {
        assert_eq!(lines(Format::Plain, |log| log.event(&event)), [expected]);
    }
}

/// Of what is nobody's failure, too: each of these has its own line.
#[test]
fn what_was_done_with_a_request_is_one_line() {
    for (decision, expected) in [
        (Decision::Redirected, "request redirected by a route"),
        (Decision::Queued, "request waits for its turn"),
        (Decision::RetrySucceeded, "request answered after a retry"),
        (Decision::Mirrored, "request copied to a mirror"),
    ] {
        let event = Event::Decided { service: "web:80".into(), decision };
        let label = decision.label();
        let expected =
            format!("DEBUG selvedge::log: {expected} decision=\"{label}\" service=web:80");
        assert_eq!(lines(Format::Plain, |log| log.event(&event)), [expected]);
    }
}

#[test]
fn a_mirror_says_what_became_of_it() {
    let addr = ([10, 0, 0, 1], 80).into();
    for (event, expected) in [
        (
            Event::Mirror {
                service: "next:80".into(),
                addr: None,
                decision: Decision::MirrorCap,
                reason: None,
            },
            r#"DEBUG selvedge::log: request not mirrored decision="mirror_cap" service=next:80"#,
        ),
        (
            Event::Mirror {
                service: "next:80".into(),
                addr: Some(addr),
                decision: Decision::MirrorCancelled,
                reason: Some(Reason::ClientGone),
            },
            r#"DEBUG selvedge::log: mirror reset: client closed the connection decision="mirror_cancelled" service=next:80 endpoint=10.0.0.1:80"#,
        ),
    ] {
        assert_eq!(lines(Format::Plain, |log| log.event(&event)), [expected]);
    }
}

#[test]
fn a_flood_of_refusals_is_no_flood_of_lines() {
    let flood = 1000;
    let mut suppressed = 0;
    let lines = lines(Format::Plain, |log| {
        let refused = refused(Reason::BareLf, None);
        for _ in 0..flood {
            log.event(&refused);
        }
        log.event(&up());
        suppressed = log.suppressed().load(Ordering::Relaxed);
    });
    let refusals = lines.iter().filter(|line| line.contains("bare_lf")).count() as u64;
    // The clock may have passed from one second to the next meanwhile.
    assert!((100..=300).contains(&refusals), "{refusals}");
    assert_eq!(suppressed, flood - refusals);
    // What no peer decides is written whatever the flood.
    assert!(lines.iter().any(|line| line.contains("endpoint up")));
}

/// Runs the writer, which has no end, until it writes a line with this in it.
fn write_until(log: &Log, receiver: &Receiver<Message>, part: &'static str) -> String {
    struct Until(&'static str, String);
    impl Write for Until {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.1 = String::from_utf8_lossy(line).into();
            if self.1.contains(self.0) {
                resume_unwind(Box::new(()));
            }
            Ok(line.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Until(part, String::new());
    let writer = AssertUnwindSafe(|| log.write(receiver, &mut out));
    assert!(catch_unwind(writer).is_err());
    out.1
}

#[test]
fn what_was_suppressed_is_summed_up_although_nothing_follows() {
    let (log, receiver) = Log::new();
    let subscriber = subscriber("info".parse().unwrap(), Format::Plain, log.clone());
    tracing::subscriber::with_default(subscriber, || {
        let refused = refused(Reason::BareLf, None);
        while log.suppressed().load(Ordering::Relaxed) < 5 {
            log.event(&refused);
        }
        let line = write_until(&log, &receiver, "suppressed=");
        assert!(line.ends_with("too many refusals to log each suppressed=5\n"), "{line}");
    });
}

#[test]
fn a_second_has_so_many_lines_and_the_rest_is_summed_up() {
    let mut limiter = Limiter::default();
    for _ in 0..Limiter::PER_SECOND {
        assert_eq!(limiter.admit(7), Verdict::Write);
    }
    for first in [true, false, false] {
        assert_eq!(limiter.admit(7), Verdict::Suppress { first });
    }
    assert_eq!(limiter.summary(7), None);
    assert_eq!(limiter.summary(8), Some(3));
    assert_eq!(limiter.summary(9), None);
    assert_eq!(limiter.admit(9), Verdict::Write);
    assert_eq!(limiter.summary(10), None);
}

#[test]
fn nothing_waits_for_a_writer_that_is_stuck() {
    let lines = lines(Format::Plain, |log| {
        for _ in 0..Log::WAITING + 3 {
            log.event(&up());
        }
        assert_eq!(log.suppressed().load(Ordering::Relaxed), 3);
        // Returns although nobody answers.
        log.flush();
    });
    assert_eq!(lines.len(), Log::WAITING);
}

#[test]
fn lost_lines_are_confessed() {
    let (log, receiver) = Log::new();
    let subscriber = subscriber("info".parse().unwrap(), Format::Plain, log.clone());
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..Log::WAITING + 3 {
            log.event(&up());
        }
        let line = write_until(&log, &receiver, "lost=");
        assert!(
            line.ends_with("log lines were lost: standard output was blocked lost=3\n"),
            "{line}"
        );
    });
}

#[test]
fn flush_comes_after_what_was_logged_before() {
    let (log, receiver) = Log::new();
    for line in [b"one\n", b"two\n"] {
        (&log).write_all(line).unwrap();
    }
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        for message in receiver {
            match message {
                Message::Line(line) => text.extend(line),
                Message::Owing => {}
                Message::Flush(done) => {
                    done.send(()).unwrap();
                    return text;
                }
            }
        }
        unreachable!("the log is still there")
    });
    log.flush();
    assert_eq!(reader.join().unwrap(), b"one\ntwo\n");
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let why = init("selvedge=loud", Format::Plain).unwrap_err();
    assert!(why.starts_with(r#""selvedge=loud" is not a level or target=level,…: "#), "{why}");
}

/// Runs itself as a child, for a panic there is the end of the process.
#[test]
fn a_panic_is_one_line_and_the_end() {
    const CHILD: &str = "SELVEDGE_TEST_PANIC";
    if std::env::var_os(CHILD).is_some() {
        init("info", Format::Json).unwrap().abort_on_panic();
        let worker = thread::Builder::new().name("worker".into());
        let _ = worker.spawn(|| panic!("at {}", "once")).unwrap().join();
        unreachable!("the process is gone");
    }
    let name = "log::tests::a_panic_is_one_line_and_the_end";
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(!child.status.success());
    let text = String::from_utf8(child.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("ERROR"));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    for part in [
        r#""message":"panic: at once""#,
        r#""thread":"worker""#,
        "src/log/tests.rs:",
        "a_panic_is_one_line_and_the_end",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_request_that_goes_elsewhere_says_why() {
    let event = Event::Placed {
        service: "web:80".into(),
        addr: Some(([10, 0, 0, 1], 80).into()),
        to: None,
        decision: Decision::KeyUnready,
    };
    assert_eq!(
        lines(Format::Plain, |log| log.event(&event)),
        [
            r#"DEBUG selvedge::log: request placed elsewhere decision="key_unready" service=web:80 endpoint=10.0.0.1:80"#
        ]
    );
}
