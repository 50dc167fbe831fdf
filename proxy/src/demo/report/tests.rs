use super::*;
use crate::demo::STEADY;

const APPS: [&str; 3] = [STEADY, SLOW, CRASHES];

fn answer(sequence: u64, status: u16, app: Option<&str>, ms: u64) -> Answer {
    let latency = Duration::from_millis(ms);
    let app = app.map(str::to_owned);
    Answer { sequence, status: Some(status), again: false, app, latency }
}

/// A run in which each app gets a third, and the one that crashed was down for a second.
struct Run {
    wire: Wire,
    start: Instant,
    answers: Vec<Answer>,
    diary: Diary,
    downs: Vec<Down>,
    secured: Option<Secured>,
}

fn session() -> Session {
    let identity = "client.demo".into();
    Session {
        identity,
        version: "TLSv1.3",
        group: "X25519MLKEM768",
        suite: "TLS_AES_128_GCM_SHA256",
    }
}

impl Run {
    fn new() -> Self {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut down = Down::new(at(5_001));
        down.until = Some(at(7_500));
        down.look(33);
        down.look(33);
        Run {
            wire: Wire::Http1,
            start,
            answers: (0..100)
                .map(|n| answer(n, 200, Some([STEADY, CRASHES][n as usize % 2]), n + 1))
                .collect(),
            diary: Diary {
                received: vec![at(4_000), at(8_000)],
                crashed: Some(at(5_000)),
                back: Some(at(7_000)),
                ..Diary::default()
            },
            downs: vec![down],
            secured: Some(Secured { sessions: vec![(session(), 4)], received: 2, identified: 2 }),
        }
    }

    /// Lets `app` have answered the requests of `numbers`.
    fn give(&mut self, app: &str, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            self.answers[number].app = Some(app.to_owned());
        }
    }

    fn report(&self) -> Report {
        Report::new(&Seen {
            wire: self.wire,
            apps: &APPS,
            answers: &self.answers,
            start: self.start,
            end: self.start + Duration::from_secs(10),
            diary: &self.diary,
            downs: &self.downs,
            resent: 3,
            secured: self.secured.clone(),
            cost: None,
        })
    }

    /// The names of the checks that fail.
    fn failing(&self) -> Vec<&'static str> {
        let checks = self.report().checks;
        checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }
}

#[test]
fn quantiles_are_by_nearest_rank() {
    let ms = Duration::from_millis;
    let hundred: Vec<_> = (1..=100).map(ms).collect();
    assert_eq!(quantile(&hundred, 0.5), Some(ms(50)));
    assert_eq!(quantile(&hundred, 0.99), Some(ms(99)));
    assert_eq!(quantile(&hundred, 1.0), Some(ms(100)));
    assert_eq!(quantile(&hundred[..3], 0.5), Some(ms(2)));
    assert_eq!(quantile(&hundred[..1], 0.99), Some(ms(1)));
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn rows_are_by_who_answered() {
    let mut run = Run::new();
    let report = run.report();
    assert!(report.ok(), "{report}");
    let rows: Vec<_> = report.rows.iter().map(|row| (row.name, row.requests)).collect();
    assert_eq!(rows, [(STEADY, 50), (SLOW, 0), (CRASHES, 50)]);
    assert_eq!(report.rows[0].p50, Some(Duration::from_millis(49)));
    assert_eq!(report.rows[1].p50, None);
    assert_eq!(report.total.p99, Some(Duration::from_millis(99)));

    run.answers[0] = answer(0, 502, None, 1);
    run.answers[1] = Answer { status: None, ..answer(1, 0, None, 1) };
    run.answers[2].status = Some(500);
    let report = run.report();
    let rows: Vec<_> = report.rows.iter().map(|row| (row.name, row.requests)).collect();
    let own = [("(Selvedge itself)", 1), ("(no answer)", 1)];
    assert_eq!(rows[..3], [(STEADY, 49), (SLOW, 0), (CRASHES, 49)]);
    assert_eq!(rows[3..], own);
    assert!((report.rows[0].success - 48.0 / 49.0).abs() < 1e-9);
    assert!((report.total.success - 0.97).abs() < 1e-9);
    assert!((report.total.share - 1.0).abs() < 1e-9);
    assert_eq!(run.failing(), ["not_200"]);
}

#[test]
fn the_slow_app_has_to_stay_under_its_limit() {
    let mut run = Run::new();
    run.give(SLOW, 0..14);
    assert_eq!(run.failing(), [""; 0]);
    run.give(SLOW, 14..15);
    assert_eq!(run.failing(), ["slow_share"]);
}

#[test]
fn only_the_last_quarter_shows_that_the_app_is_back() {
    let mut run = Run::new();
    run.give(STEADY, 75..100);
    run.give(CRASHES, 0..75);
    assert_eq!(run.failing(), ["crashed_last_quarter"]);
    run.give(CRASHES, 75..77);
    assert_eq!(run.failing(), ["crashed_last_quarter"]);
    run.give(CRASHES, 77..78);
    assert_eq!(run.failing(), [""; 0]);
}

#[test]
fn nothing_may_be_sent_to_an_app_that_is_known_to_be_down() {
    let mut run = Run::new();
    run.downs[0].look(34);
    assert_eq!(run.failing(), ["chosen_while_down"]);

    let mut run = Run::new();
    run.diary.received.push(run.start + Duration::from_secs(6));
    assert_eq!(run.failing(), ["chosen_while_down"]);
}

#[test]
fn a_crash_that_nobody_noticed_proves_nothing() {
    let mut run = Run::new();
    run.downs.clear();
    assert_eq!(run.failing(), ["crash_noticed"]);

    // Nor does one that was not looked at.
    run.downs.push(Down::new(run.start));
    assert!(run.failing().contains(&"crash_noticed"));
}

#[test]
fn nothing_at_all_is_no_success() {
    let mut run = Run::new();
    run.answers.clear();
    let failing = run.failing();
    assert!(failing.contains(&"slow_share") && failing.contains(&"crashed_last_quarter"));
}

#[test]
fn the_text_says_what_failed_with_value_and_limit() {
    let mut run = Run::new();
    run.give(SLOW, 0..15);
    let text = run.report().to_string();
    let failed: Vec<_> = text.lines().filter(|line| line.contains("FAILED")).collect();
    let [line] = failed[..] else { panic!("{text}") };
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words.join(" "), "FAILED the slow app's share 15.00 % (has to be under 15.00 %)");

    let row = text.lines().find(|line| line.trim_start().starts_with(STEADY)).unwrap();
    let words: Vec<_> = row.split_whitespace().collect();
    assert_eq!(words.join(" "), "steady 42 42.00 % 100.00 % 57.0 ms 99.0 ms");
    // Aligned: every line of the table is as wide as its head.
    let widths: Vec<_> = text.lines().take(6).map(|line| line.chars().count()).collect();
    assert_eq!(widths, [widths[0]; 6], "{text}");
    assert!(text.contains("crashed at 5.00 s; Selvedge noticed at 5.00 s."), "{text}");
}

#[test]
fn the_object_has_the_same_figures() {
    let mut run = Run::new();
    run.give(SLOW, 0..15);
    let object = run.report().to_json();
    assert_eq!(object["ok"], false);
    assert_eq!(object["endpoints"][0]["name"], STEADY);
    assert_eq!(object["endpoints"][0]["requests"], 42);
    assert_eq!(object["endpoints"][0]["p50_ms"], 57.0);
    assert_eq!(object["total"]["requests"], 100);
    assert_eq!(object["crashed_app"]["rejoined_s"], 7.5);
    assert_eq!(object["resent"], 3);
    assert_eq!(object["checks"].as_array().unwrap().len(), 7);
    let tls = &object["mutual_tls"];
    assert_eq!((&tls["requests"], &tls["identified"]), (&2.into(), &2.into()));
    assert_eq!(tls["sessions"][0]["group"], "X25519MLKEM768");
    let slow = serde_json::json!({
        "name": "slow_share", "ok": false, "value": 0.15, "rule": "<", "limit": 0.15,
    });
    assert_eq!(object["checks"][1], slow);
    assert_eq!(object["checks"][0]["value"], 0);
}

#[test]
fn one_crash_costs_no_more_calls_than_can_be_under_way() {
    let mut run = Run::new();
    run.wire = Wire::Grpc;
    for answer in &mut run.answers {
        answer.status = Some(0);
    }
    run.answers[..USERS].iter_mut().for_each(|answer| answer.again = true);
    assert_eq!(run.failing(), [""; 0]);
    let text = run.report().to_string();
    assert!(text.contains("Sent again by the client: 16."), "{text}");
    run.answers[USERS].again = true;
    assert_eq!(run.failing(), ["called_again"]);
    run.answers[51] = Answer { status: Some(14), ..run.answers[51].clone() };
    assert_eq!(run.failing(), ["not_ok", "called_again"]);
}

#[test]
fn a_request_from_nobody_is_a_failure() {
    let mut run = Run::new();
    assert_eq!(run.failing(), [""; 0]);
    for (received, identified) in [(2, 1), (0, 0)] {
        run.secured = Some(Secured { sessions: Vec::new(), received, identified });
        assert_eq!(run.failing(), ["not_mutual_tls"]);
    }
    // In plain nobody asks.
    run.secured = None;
    assert_eq!(run.failing(), [""; 0]);
}
