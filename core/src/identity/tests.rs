use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn names_are_dns_like_or_spiffe() {
    assert_eq!(name("Web.NS.cluster.local.").as_str(), "web.ns.cluster.local");
    assert_eq!(name("web").as_str(), "web");
    assert!(name("spiffe://root.linkerd.cluster.local/proxy-test").is_uri());
    assert!(name("spiffe://td").is_uri());
    assert!(!name("xn--bcher-kva.example").is_uri());
    let long = "a".repeat(64);
    let longer = alloc::format!("{}a", "a.".repeat(127));
    for (text, error) in [
        ("", NameError::Empty),
        (".", NameError::Empty),
        ("a..b", NameError::Label),
        ("-a.b", NameError::Label),
        ("a-.b", NameError::Label),
        (&*long, NameError::Label),
        (&*longer, NameError::TooLong),
        ("a b", NameError::Character),
        ("*.a", NameError::Character),
        ("bücher.example", NameError::Character),
        ("10.0.0.1", NameError::Address),
        ("::1", NameError::Address),
        ("https://a/b", NameError::Scheme),
        ("spiffe://", NameError::Empty),
        ("spiffe://TD/a", NameError::Character),
        ("spiffe://td:80/a", NameError::Character),
        ("spiffe://u@td/a", NameError::Character),
        ("spiffe://td/a?b", NameError::Character),
        ("spiffe://td/", NameError::Path),
        ("spiffe://td/a//b", NameError::Path),
        ("spiffe://td/a/..", NameError::Path),
    ] {
        assert_eq!(Name::parse(text), Err(error), "{text}");
    }
}

#[test]
fn patterns_match_whole_labels() {
    let suffix = Pattern::parse("*.NS.cluster.local").expect("a suffix");
    assert_eq!(alloc::format!("{suffix}"), "*.ns.cluster.local");
    assert!(suffix.matches(&name("web.ns.cluster.local")));
    assert!(suffix.matches(&name("a.b.ns.cluster.local")));
    assert!(!suffix.matches(&name("ns.cluster.local")));
    assert!(!suffix.matches(&name("evilns.cluster.local")));
    assert!(!suffix.matches(&name("web.ns.cluster.local.evil")));
    let uri = Pattern::parse("spiffe://td/a").expect("an exact one");
    assert!(uri.matches(&name("spiffe://td/a")) && !uri.matches(&name("spiffe://td/a/b")));
    assert!(Pattern::Any.matches(&name("x")));
    assert!(Pattern::parse("*.").is_err() && Pattern::parse("*.*.a").is_err());
}

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(1_000_000 + secs)
}

fn after(secs: u64) -> Time {
    Time::ZERO + Duration::from_secs(secs)
}

const HOUR: u64 = 3600;

/// Life left when it comes, and when the next one is asked for.
#[test]
fn renews_at_seventy_percent_within_bounds() {
    for (left, wait) in [
        (1, 10),
        (10, 10),
        (14, 10),
        (20, 14),
        (100, 70),
        (24 * HOUR, 60480),
        (48 * HOUR, 24 * HOUR),
        (365 * 24 * HOUR, 24 * HOUR),
    ] {
        let mut renewal = Renewal::default();
        assert_eq!(renewal.poll(Time::ZERO, at(0)), Due::Now);
        // It is backdated, as authorities do; what is left counts.
        let from = UnixTime::from_secs(1_000_000 - 100);
        assert!(renewal.certified(at(0), from, at(left)), "{left}");
        assert_eq!(renewal.poll(Time::ZERO, at(0)), Due::At(after(wait)), "{left}");
        assert_eq!(renewal.poll(after(wait), at(wait)), Due::Now, "{left}");
        // It is asked for once, and again when no answer came.
        assert_eq!(renewal.poll(after(wait), at(wait)), Due::At(after(wait + 60)), "{left}");
        assert_eq!(renewal.poll(after(wait + 60), at(wait + 60)), Due::Now, "{left}");
    }
}

#[test]
fn backs_off_after_failures_and_keeps_what_there_is() {
    let mut renewal = Renewal::default();
    assert!(renewal.certified(at(0), at(0), at(100)));
    let mut now = 70;
    for wait in [1, 2, 4, 8, 10, 10, 10] {
        assert_eq!(renewal.poll(after(now), at(now)), Due::Now);
        assert_eq!(renewal.failed(after(now), 0.0), Duration::from_secs(wait));
        assert_eq!(renewal.poll(after(now), at(now)), Due::At(after(now + wait)));
        assert_eq!(renewal.is_valid(at(now)), now < 100);
        now += wait;
    }
    assert_eq!(renewal.failed(after(now), 1.0), Duration::from_secs(11));
    assert!(renewal.certified(at(now), at(now), at(now + 1000)));
    assert_eq!(renewal.failed(after(now), 0.0), Duration::from_secs(1), "it starts over");
}

#[test]
fn refuses_what_is_over_and_waits_for_what_is_early() {
    let mut renewal = Renewal::default();
    assert!(!renewal.certified(at(10), at(0), at(10)));
    assert!(!renewal.certified(at(10), at(30), at(20)));
    assert!(renewal.validity().is_none());
    assert!(renewal.certified(at(10), at(20), at(120)));
    assert!(!renewal.is_valid(at(19)) && renewal.is_valid(at(20)));
    assert!(renewal.is_valid(at(119)) && !renewal.is_valid(at(120)));
    assert_eq!(renewal.next_change(at(10)), Some(at(20)));
    assert_eq!(renewal.next_change(at(20)), Some(at(120)));
    assert_eq!(renewal.next_change(at(120)), None);
}

#[test]
fn survives_clocks_that_are_set() {
    let mut renewal = Renewal::default();
    assert!(renewal.certified(at(HOUR), at(0), at(2 * HOUR)));
    let due = after(HOUR * 7 / 10);
    assert_eq!(renewal.due(after(0), at(HOUR)), due);
    // Forward past the renewal: now. Back by a year: a day at most.
    assert_eq!(renewal.due(after(0), at(3 * HOUR)), after(0));
    assert_eq!(renewal.due(after(0), UnixTime::from_secs(5)), after(24 * HOUR));
    assert!(!renewal.is_valid(UnixTime::from_secs(5)));
}
