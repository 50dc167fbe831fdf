use std::io::Write;
use std::sync::Mutex;

use selvedge_core::config::{Config, Listener, ListenerKind};
use selvedge_core::engine::{Accepted, ConnId, Direction, Engine};
use selvedge_core::error::{DnsError, Reason};
use selvedge_core::rng::Seed;
use selvedge_core::time::Time;

use super::*;

/// Collects what is written.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that logging these events gives, without their times, and with `CONN` for [`conn`].
fn lines(json: bool, write: impl FnOnce()) -> Vec<String> {
    let sink = Sink::default();
    let writer = {
        let sink = sink.clone();
        move || sink.clone()
    };
    let layer = fmt::layer().without_time();
    if json {
        let layer = layer.json().flatten_event(true).with_writer(writer);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, write);
    } else {
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(writer));
        tracing::subscriber::with_default(subscriber, write);
    }
    let bytes = sink.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    let line = |line: &str| line.trim_start().replace(&format!("{:?}", conn()), "CONN");
    text.lines().map(line).collect()
}

fn up(number: u16) -> Event {
    Event::EndpointUp { service: "web:80".into(), addr: ([10, 0, 0, 1], number).into() }
}

/// Only an engine makes ids.
fn conn() -> ConnId {
    let addr = ([127, 0, 0, 1], 4140).into();
    let config = Config {
        listeners: vec![Listener { addr, kind: ListenerKind::Outbound }],
        ..Config::default()
    };
    let mut engine = Engine::new(Arc::new(config), Seed::from_number(0), Time::ZERO);
    let accepted = Accepted {
        listener: 0,
        peer: ([127, 0, 0, 1], 50000).into(),
        local: addr,
        original_dst: None,
    };
    engine.accept(Time::ZERO, accepted).unwrap()
}

fn refused(reason: Reason, service: Option<&str>) -> Event {
    Event::Refused {
        conn: conn(),
        direction: Direction::Outbound,
        peer: ([127, 0, 0, 1], 50000).into(),
        reason,
        service: service.map(Into::into),
    }
}

#[test]
fn a_refusal_says_why() {
    assert_eq!(
        lines(false, || line(&refused(Reason::BareLf, None))),
        [
            r#"INFO selvedge::log: refused: line ends in a bare LF status=400 reason="bare_lf" direction="outbound" peer=127.0.0.1:50000 conn=CONN"#
        ]
    );
    assert_eq!(
        lines(true, || line(&refused(Reason::Failfast, Some("web:80")))),
        [
            r#"{"level":"WARN","message":"failed: no endpoint ready: service in fail-fast","status":504,"reason":"failfast","direction":"outbound","peer":"127.0.0.1:50000","service":"web:80","conn":"CONN","target":"selvedge::log"}"#
        ]
    );
}

/// Runs the writer over these events and an end.
fn written(events: impl IntoIterator<Item = Event>) -> (Vec<String>, u64) {
    let (sender, receiver) = sync_channel(EventLog::WAITING);
    for event in events {
        sender.send(Message::Event(event)).unwrap();
    }
    drop(sender);
    let counter = AtomicU64::new(0);
    let lines = lines(false, || write(&receiver, &counter));
    (lines, counter.into_inner())
}

#[test]
fn a_flood_of_refusals_is_no_flood_of_lines() {
    let flood = (0..1000).map(|_| refused(Reason::BareLf, None));
    let (lines, suppressed) = written(flood.chain([up(80)]));
    let refusals = lines.iter().filter(|line| line.contains("bare_lf")).count();
    // The clock may have passed from one second to the next meanwhile.
    assert!((100..=300).contains(&refusals), "{refusals}");
    assert_eq!(suppressed, 1000 - refusals as u64);
    // What no peer decides is written whatever the flood, and the rest is summed up at the end.
    assert!(lines.iter().any(|line| line.contains("endpoint up")));
    let summed: u64 = lines
        .iter()
        .filter_map(|line| line.split_once("suppressed="))
        .map(|(_, count)| count.parse::<u64>().unwrap())
        .sum();
    assert_eq!(summed, suppressed);
}

#[test]
fn every_event_is_one_line() {
    let service: Arc<str> = "web:80".into();
    let addr = ([10, 0, 0, 1], 80).into();
    let events = [
        (
            Event::EndpointDown {
                service: service.clone(),
                addr,
                reason: Reason::ConnectFailed,
                retry_in: Duration::from_millis(100),
            },
            r#"WARN selvedge::log: endpoint down: connection to the endpoint failed service=web:80 addr=10.0.0.1:80 reason="connect_failed" retry_in=100ms"#,
        ),
        (
            Event::Closed {
                conn: conn(),
                direction: Direction::Inbound,
                peer: addr,
                reason: Reason::TcpIdle,
            },
            r#"INFO selvedge::log: closed: TCP connection idle for too long reason="tcp_idle" direction="inbound" peer=10.0.0.1:80 conn=CONN"#,
        ),
        (up(80), "INFO selvedge::log: endpoint up service=web:80 addr=10.0.0.1:80"),
        (
            Event::FailfastEntered { service: service.clone(), failed: 3 },
            "WARN selvedge::log: no endpoint ready: requests fail at once service=web:80 failed=3",
        ),
        (
            Event::FailfastLeft { service },
            "INFO selvedge::log: an endpoint is ready again service=web:80",
        ),
        (
            Event::ResolveFailed {
                name: "web.local".into(),
                error: DnsError::NotFound,
                retry_in: Duration::from_secs(5),
            },
            "WARN selvedge::log: cannot resolve; the last good answer stays name=web.local error=NotFound retry_in=5s",
        ),
        (
            Event::Reloaded { services: 2 },
            "INFO selvedge::log: new configuration in effect services=2",
        ),
        (Event::Draining, "INFO selvedge::log: draining"),
        (Event::Drained, "INFO selvedge::log: drained"),
    ];
    for (event, expected) in events {
        assert_eq!(lines(false, || line(&event)), [expected]);
    }
}

#[test]
fn json_has_every_field_at_the_top() {
    let written = lines(true, || line(&up(80)));
    assert_eq!(
        written,
        [
            r#"{"level":"INFO","message":"endpoint up","service":"web:80","addr":"10.0.0.1:80","target":"selvedge::log"}"#
        ]
    );
}

#[test]
fn a_panic_is_one_line_with_its_place() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&written);
    let before = std::panic::take_hook();
    let this_thread = thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        // Other tests may panic meanwhile.
        if thread::current().id() == this_thread {
            *copy.lock().unwrap() = lines(true, || log_panic(panic));
        }
    }));
    let result = std::panic::catch_unwind(|| panic!("at {}", "once"));
    std::panic::set_hook(before);
    assert!(result.is_err());
    let written = written.lock().unwrap();
    let [line] = &written[..] else { panic!("{written:?}") };
    for part in
        [r#""message":"panic: at once""#, "src/log/tests.rs:", "a_panic_is_one_line_with_its_place"]
    {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_second_has_so_many_lines_and_the_rest_is_summed_up() {
    let mut limiter = Limiter::default();
    assert!((0..Limiter::PER_SECOND).all(|_| limiter.admit(7)));
    assert!((0..5).all(|_| !limiter.admit(7)));
    assert_eq!(limiter.summary(7), None);
    assert_eq!(limiter.summary(8), Some(5));
    assert_eq!(limiter.summary(9), None);
    assert!(limiter.admit(9));
    assert_eq!(limiter.summary(10), None);
}

#[test]
fn nothing_waits_for_the_writer() {
    // A log whose thread never comes.
    let (sender, receiver) = sync_channel(2);
    let log = EventLog { sender, suppressed: Arc::default() };
    let sink = log.sink();
    for number in 0..5 {
        sink(up(number));
    }
    assert_eq!(log.suppressed().load(Ordering::Relaxed), 3);
    log.flush();
    drop(receiver);
    sink(up(9));
    log.flush();
}

#[test]
fn flush_comes_after_what_was_logged_before() {
    let log = EventLog::start().unwrap();
    let sink = log.sink();
    for number in 0..10 {
        sink(up(number));
    }
    log.flush();
    assert_eq!(log.suppressed().load(Ordering::Relaxed), 0);
}
