use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn config() -> BreakerConfig {
    BreakerConfig { consecutive: 3, ..BreakerConfig::default() }
}

fn rated(consecutive: u32) -> BreakerConfig {
    let success_rate = Some(SuccessRate { min_requests: 10, ..SuccessRate::default() });
    BreakerConfig { consecutive, success_rate, ..BreakerConfig::default() }
}

/// Shuts a breaker and lets the first backoff pass.
fn unprobed(config: &BreakerConfig) -> (Breaker, Time) {
    let mut breaker = Breaker::default();
    breaker.eject(config, 1.0, at(0));
    let due = breaker.deadline().expect("a deadline");
    assert_eq!(breaker.timeout(config, 0.0, due), None);
    assert!(breaker.wants_probe() && breaker.is_ejected());
    (breaker, due)
}

#[test]
fn only_failures_in_a_row_are_a_trip() {
    use Verdict::{Failure, Success, Throttled};
    let config = config();
    let mut breaker = Breaker::default();
    for verdict in [Failure, Failure, Success, Failure, Failure, Throttled, Failure, Failure] {
        assert_eq!(breaker.record(&config, verdict, at(0)), None);
    }
    assert_eq!(breaker.record(&config, Failure, at(0)), Some(Trip::Consecutive(3)));
    // Whether it is ejected is for others to say; if not, three more are needed.
    assert!(!breaker.is_ejected());
    assert_eq!(breaker.record(&config, Failure, at(0)), None);
}

#[test]
fn too_few_successes_are_a_trip_once_there_are_enough_answers() {
    let config = rated(0);
    let mut breaker = Breaker::default();
    for n in 0..9 {
        assert_eq!(breaker.record(&config, Verdict::Throttled, at(n)), None);
    }
    let trip = breaker.record(&config, Verdict::Success, at(9));
    assert_eq!(trip, Some(Trip::SuccessRate { succeeded: 1, total: 10 }));
    // Eight of ten are enough.
    for n in 1..100 {
        let verdict = if n % 5 == 0 { Verdict::Failure } else { Verdict::Success };
        assert_eq!(breaker.record(&config, verdict, at(n)), None, "{n}");
    }
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    let config = rated(0);
    let mut breaker = Breaker::default();
    for n in 0..9 {
        assert_eq!(breaker.record(&config, Verdict::Failure, at(n)), None);
    }
    assert_eq!(breaker.record(&config, Verdict::Failure, at(10_000)), None);
    // A long silence forgets everything.
    for n in 0..8 {
        assert_eq!(breaker.record(&config, Verdict::Failure, at(1_000_000 + n)), None);
    }
    for n in 0..9 {
        let trip = breaker.record(&config, Verdict::Failure, at(1_010_100 + n));
        assert_eq!(trip, None, "{n}");
    }
}

#[test]
fn the_backoff_doubles_up_to_the_most_and_is_spread() {
    let config = config();
    for (nth, least, most) in [(1, 1000, 1500), (2, 2000, 3000), (6, 32_000, 48_000)] {
        assert_eq!(config.backoff(nth, 0.0), Duration::from_millis(most), "{nth}");
        assert_eq!(config.backoff(nth, 1.0), Duration::from_millis(least), "{nth}");
    }
    for nth in [7, 40, u32::MAX] {
        assert_eq!(config.backoff(nth, 0.0), Duration::from_mins(1), "{nth}");
        assert_eq!(config.backoff(nth, 1.0), Duration::from_secs(40), "{nth}");
    }
}

#[test]
fn one_probe_decides() {
    let config = config();
    let (mut breaker, now) = unprobed(&config);
    breaker.probe(&config, now);
    assert!(!breaker.wants_probe(), "one is enough");
    // What was asked before it was ejected says nothing.
    assert_eq!(breaker.record(&config, Verdict::Success, now), None);
    assert!(breaker.is_ejected());
    let shut = breaker.probed(&config, Some(Verdict::Failure), 1.0, now);
    assert_eq!(shut, Some(Duration::from_secs(2)), "twice as long");
    let now = now + Duration::from_secs(2);
    breaker.timeout(&config, 0.0, now);
    breaker.probe(&config, now);
    assert_eq!(breaker.probed(&config, Some(Verdict::Success), 1.0, now), None);
    assert!(!breaker.is_ejected());
    // The next time it begins with the least again.
    assert_eq!(breaker.eject(&config, 1.0, now), Duration::from_secs(1));
}

#[test]
fn a_probe_that_says_nothing_is_followed_by_another() {
    let config = config();
    let (mut breaker, now) = unprobed(&config);
    breaker.probe(&config, now);
    assert_eq!(breaker.probed(&config, None, 1.0, now), None);
    assert!(breaker.wants_probe());
    breaker.probe(&config, now);
    let due = breaker.deadline().expect("it is not waited for without end");
    assert_eq!(due, now + config.backoff_max);
    assert_eq!(breaker.timeout(&config, 1.0, due), Some(Duration::from_secs(2)));
    // Its answer comes too late.
    assert_eq!(breaker.probed(&config, Some(Verdict::Success), 1.0, due), None);
    assert!(breaker.is_ejected());
}

#[test]
fn an_answer_that_has_begun_is_waited_for_no_longer_than_the_first_backoff() {
    let config = config();
    let (mut breaker, now) = unprobed(&config);
    breaker.answering(&config, now);
    assert!(breaker.wants_probe(), "nothing was asked");
    breaker.probe(&config, now);
    let begun = now + Duration::from_secs(5);
    breaker.answering(&config, begun);
    // More of it changes nothing.
    breaker.answering(&config, begun + Duration::from_millis(500));
    let due = begun + config.backoff_min;
    assert_eq!(breaker.deadline(), Some(due));
    let early = begun + config.backoff_min.saturating_sub(Duration::from_nanos(1));
    assert_eq!(breaker.timeout(&config, 1.0, early), None);
    assert!(breaker.is_ejected());
    assert_eq!(breaker.timeout(&config, 1.0, due), None);
    assert!(!breaker.is_ejected());
}

#[test]
fn an_endpoint_that_throttles_is_not_readmitted() {
    let config = config();
    let (mut breaker, now) = unprobed(&config);
    breaker.probe(&config, now);
    assert!(breaker.probed(&config, Some(Verdict::Throttled), 1.0, now).is_some());
}

#[test]
fn what_the_endpoint_asks_for_is_heeded_up_to_the_most() {
    let config = config();
    for (asked, waits) in [(0, 1), (1, 1), (20, 20), (3600, 60)] {
        let mut breaker = Breaker::default();
        breaker.heed(Duration::from_secs(asked), at(500));
        let shut = breaker.eject(&config, 1.0, at(500));
        assert_eq!(shut, Duration::from_secs(waits), "{asked}");
    }
    // A success takes it back.
    let mut breaker = Breaker::default();
    breaker.heed(Duration::from_secs(20), at(0));
    breaker.record(&config, Verdict::Success, at(1));
    assert_eq!(breaker.eject(&config, 1.0, at(1)), Duration::from_secs(1));
}

#[test]
fn statuses_mean_what_they_mean() {
    use Verdict::{Failure, Success, Throttled};
    let config = BreakerConfig { grpc: [2, 14].into(), ..config() };
    for (status, grpc, verdict) in [
        (200, None, Success),
        (404, None, Success),
        (499, None, Success),
        (429, None, Throttled),
        (500, None, Failure),
        (503, None, Failure),
        (200, Some(0), Success),
        (200, Some(5), Success),
        (200, Some(8), Throttled),
        (200, Some(13), Success),
        (200, Some(14), Failure),
    ] {
        assert_eq!(config.verdict(status, grpc), verdict, "{status} {grpc:?}");
    }
}

#[test]
fn the_floor_is_rounded_down_and_spares_a_single_endpoint() {
    for (max_ejected, endpoints, floor) in
        [(0.5, 0, 0), (0.5, 1, 0), (1.0, 1, 0), (0.5, 2, 1), (0.5, 3, 1), (0.3, 10, 3), (1.0, 7, 7)]
    {
        let config = BreakerConfig { max_ejected, ..config() };
        assert_eq!(config.floor(endpoints), floor, "{max_ejected} of {endpoints}");
    }
}

#[test]
fn workers_share_the_least_number_of_answers() {
    let requests = |workers| rated(7).share(workers).success_rate.map(|rate| rate.min_requests);
    assert_eq!((requests(0), requests(1), requests(4)), (Some(10), Some(10), Some(3)));
    assert_eq!(rated(7).share(4).consecutive, 7);
}

/// What goes on well is counted in short, to the same end.
#[test]
fn the_short_way_leads_where_recording_does() {
    use crate::rng::{Rng, Seed};
    let mut rng = Rng::fork(Seed::from_number(7), 0);
    for config in [config(), rated(3)] {
        let (mut short, mut whole) = (Breaker::default(), Breaker::default());
        let (mut now, mut shortened) = (at(0), 0);
        for n in 0..20_000 {
            now += Duration::from_millis(rng.below(200));
            // Quiet times follow such with failures.
            let fails = n / 500 % 2 == 0 && rng.below(4) == 0;
            let verdict = if fails { Verdict::Failure } else { Verdict::Success };
            let settled = verdict == Verdict::Success && short.goes_on_well(&config, now);
            let trip = if settled { None } else { short.record(&config, verdict, now) };
            assert_eq!(trip, whole.record(&config, verdict, now));
            assert_eq!(alloc::format!("{short:?}"), alloc::format!("{whole:?}"));
            shortened += u32::from(settled);
            if n % 97 == 0 {
                for breaker in [&mut short, &mut whole] {
                    breaker.heed(Duration::from_millis(1), now);
                }
            }
        }
        assert!(shortened > 5_000, "{shortened}");
    }
}
