use selvedge_core::config::Timeouts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::*;

/// The whole thing, with the times of the real one scaled down: the engine's backoff, which is not,
/// leads to looks 0.1, 0.3 and 0.7 s after the crash.
fn short(wire: Wire, meshed: bool) -> Report {
    let plan = Plan {
        requests: *REQUESTS.start(),
        wire,
        meshed,
        duration: Duration::from_secs(4),
        outage: Duration::from_millis(400),
    };
    let report = play(&plan, &ProgressBar::hidden()).unwrap();
    assert!(report.ok(), "{report}");
    assert_eq!(report.total.requests, plan.requests);
    assert_eq!(report.rows.len(), 3, "{report}");
    assert_eq!(report.rows.iter().map(|row| row.requests).sum::<u64>(), plan.requests);
    // What the apps say of themselves is what the client saw.
    let p50 = |name| report.rows.iter().find(|row| row.name == name).unwrap().p50.unwrap();
    assert!(p50(SLOW) >= SLOW_ANSWER);
    assert!((FAST_ANSWER..SLOW_ANSWER).contains(&p50(STEADY)));
    let times = &report.timeline;
    assert!(times.crashed.unwrap() >= plan.duration / 2);
    assert!(times.back.unwrap() >= times.crashed.unwrap() + plan.outage);
    assert!(times.rejoined.unwrap() >= times.back.unwrap());
    report
}

#[test]
fn a_short_demo_succeeds() {
    let report = short(Wire::Http1, true);
    assert!(report.again <= client::USERS as u64, "{report}");
    let secured = report.secured.as_ref().unwrap();
    assert!(secured.received >= report.total.requests, "{report}");
    let [(session, handshakes)] = &secured.sessions[..] else { panic!("{report}") };
    assert_eq!(session.identity, mesh::CLIENT);
    assert_eq!((session.version, session.group), ("TLSv1.3", "X25519MLKEM768"));
    // Each app once, and again after the crash.
    assert!(*handshakes >= 4, "{report}");
}

#[test]
fn a_short_plain_demo_succeeds_and_says_what_it_costs() {
    let report = short(Wire::Http1, false);
    assert_eq!(report.again, 0);
    assert_eq!(report.secured, None);
    let cost = report.cost.as_ref().unwrap().to_json();
    let micros = |key: &str| cost[key].as_f64().unwrap();
    assert!(micros("plain_us") > 0.0 && micros("meshed_us") > micros("plain_us"), "{cost}");
}

#[test]
fn a_short_demo_of_grpc_succeeds() {
    let report = short(Wire::Grpc, true);
    // What the crash cut off: the calls that one app had at that moment.
    assert!(report.again <= client::USERS as u64, "{report}");
}

#[test]
fn the_crashed_app_is_in_use_again_before_the_last_quarter() {
    let (plan, timeouts) = (Plan::new(10_000, Wire::Http1), Timeouts::default());
    let (mut wait, mut looks) = (timeouts.backoff_min, Duration::ZERO);
    while looks < plan.outage {
        // A tenth is jitter. How it was earlier on decides whether one more look is needed.
        looks += wait;
        wait = (wait * 2).min(timeouts.backoff_max);
    }
    assert!(looks.mul_f64(1.1) < plan.duration / 4, "{looks:?}");
    assert!(plan.duration < Duration::from_secs(20));
}

#[tokio::test]
async fn a_crash_resets_connections_and_refuses_new_ones_until_the_app_is_back() {
    let app = App::bind("a", Duration::ZERO, Wire::Http1).await.unwrap();
    let (addr, diary, crash) = (app.addr, app.diary(), Arc::new(Notify::new()));
    let signal = Arc::clone(&crash);
    tokio::spawn(async move {
        app.serve_and_crash(&signal, Duration::from_millis(200)).await.unwrap();
    });

    let mut idle = TcpStream::connect(addr).await.unwrap();
    assert_eq!(ask(&mut idle).await, "a\n");
    let fresh = TcpStream::connect(addr).await.unwrap();
    crash.notify_one();
    for mut connection in [idle, fresh] {
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let error = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

    while diary.read().back.is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    let mut again = TcpStream::connect(addr).await.unwrap();
    assert_eq!(ask(&mut again).await, "a\n");
    let diary = diary.read();
    assert_eq!(diary.received.len(), 2);
    assert!(diary.back.unwrap() - diary.crashed.unwrap() >= Duration::from_millis(200));
}

/// Sends a request and returns the body of the response.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut buffer = Vec::new();
    let head = wire::read_head(stream, &mut buffer).await.unwrap().unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(buffer[..head].windows(8).any(|window| window == b"x-app: a"));
    wire::read_to_length(stream, &mut buffer, head + 2).await.unwrap();
    String::from_utf8(buffer.split_off(head)).unwrap()
}

#[tokio::test]
async fn what_gets_no_answer_is_counted_and_not_sent_again() {
    // Closes every connection after one request.
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut requests = 0;
        while let Ok(Ok((mut stream, _))) =
            tokio::time::timeout(Duration::from_millis(500), listener.accept()).await
        {
            wire::read_head(&mut stream, &mut Vec::new()).await.unwrap();
            requests += 1;
        }
        requests
    });
    let half_way = Arc::new(Notify::new());
    let load = Load {
        proxy,
        wire: Wire::Http1,
        insists: false,
        authority: AUTHORITY,
        requests: 40,
        duration: Duration::from_millis(40),
        half_way: Arc::clone(&half_way),
        progress: ProgressBar::hidden(),
    };
    let mut answers = load.run().await;
    answers.sort_by_key(|answer| answer.sequence);
    assert!(answers.iter().map(|answer| answer.sequence).eq(0..40));
    assert!(answers.iter().all(|answer| answer.status.is_none() && answer.app.is_none()));
    assert_eq!(server.await.unwrap(), 40);
    // Half-way was told.
    half_way.notified().await;
}
