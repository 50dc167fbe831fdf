//! Who gets how much: curl in front, nginx behind.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::common::{Mesh, Need, Peer, Proxy, eventually, free_port, have, tell};

const NEEDS: [Need; 2] = [Need::Program("curl"), Need::Program("nginx")];

const REQUESTS: usize = 400;

/// So many requests, one after the other; by whom they were answered.
fn answers(proxy: &Proxy, requests: usize) -> BTreeMap<char, usize> {
    let url = format!("http://web.test/[1-{requests}]");
    let text = proxy.curl(&[&url]).ok().text();
    assert_eq!(text.len(), requests, "{text}");
    let mut counts = BTreeMap::from(['a', 'b', 'c'].map(|name| (name, 0)));
    for name in text.chars() {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// Endpoints with weight and zone, and more lines for their service.
fn service(endpoints: &[(SocketAddr, u32, &str)], lines: &str) -> String {
    let one = |&(addr, weight, zone): &(SocketAddr, u32, &str)| {
        format!("{{ addr = \"{addr}\", weight = {weight}, zone = \"{zone}\" }}")
    };
    let endpoints: Vec<String> = endpoints.iter().map(one).collect();
    let endpoints = endpoints.join(", ");
    format!("[[service]]\nauthority = \"web.test\"\nendpoints = [{endpoints}]\n{lines}")
}

type Share = RangeInclusive<usize>;

/// At random: further off less than once in a million times, by the normal distribution.
fn about(share: f64) -> Share {
    let all = REQUESTS as f64;
    let off = 5.0 * (all * share * (1.0 - share)).sqrt();
    (all * share - off).max(0.0) as usize..=(all * share + off) as usize
}

fn exactly(count: usize) -> Share {
    count..=count
}

#[test]
fn nginx_backends_get_their_shares_by_weight_and_zone() {
    if !have(&NEEDS) {
        return;
    }
    let [a, b, c] = ["a", "b", "c"].map(|name| Peer::nginx(name, ""));
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (any, none) = (0..=REQUESTS, exactly(0));
    let eighths = [1.0, 2.0, 5.0].map(|weight| about(weight / 8.0));
    let by_turns = [50, 100, 250].map(exactly);
    // Balancer, zone of the proxy, whether `a` is there, and what `a`, `b` and `c` get: they have
    // weights of 1, 2 and 5, and the first is in a zone of its own.
    let table = [
        ("round-robin", "", true, by_turns),
        ("random", "", true, eighths),
        // One at a time, the heavier of two is always the less loaded.
        ("least-request", "", true, [any.clone(), any.clone(), any.clone()]),
        ("peak-ewma", "", true, [any.clone(), any.clone(), any]),
        ("round-robin", "one", true, [exactly(REQUESTS), none.clone(), none.clone()]),
        ("random", "two", true, [none.clone(), about(2.0 / 7.0), about(5.0 / 7.0)]),
        ("random", "one", false, [none, about(2.0 / 7.0), about(5.0 / 7.0)]),
    ];
    for (balancer, zone, is_there, shares) in table {
        let first = if is_there { a.addr } else { nobody };
        let endpoints = [(first, 1, "one"), (b.addr, 2, "two"), (c.addr, 5, "two")];
        let mut mesh =
            Mesh::new().section(service(&endpoints, &format!("balancer = \"{balancer}\"")));
        if !zone.is_empty() {
            mesh = mesh.proxy(format!("zone = \"{zone}\""));
        }
        let proxy = mesh.start();
        if !is_there {
            // It is found out by the first request that is sent there.
            answers(&proxy, 20);
        }
        let counts = answers(&proxy, REQUESTS);
        tell(&format!("{balancer} in zone {zone:?}: {counts:?}"));
        for (count, share) in counts.values().zip(&shares) {
            assert!(share.contains(count), "{balancer} {zone} {is_there}: {counts:?}");
        }
        // By latency: what else the machine does decides.
        let by_weight = zone.is_empty() && balancer != "peak-ewma";
        let ordered = !by_weight || counts[&'a'] <= counts[&'b'] && counts[&'b'] < counts[&'c'];
        assert!(ordered, "{balancer}: {counts:?}");
    }
}

#[test]
fn nginx_that_is_new_gets_less_at_first() {
    const SLOW: Duration = Duration::from_secs(4);
    if !have(&NEEDS) {
        return;
    }
    let [a, b] = ["a", "b"].map(|name| Peer::nginx(name, ""));
    for slow_start in ["", "slow_start = \"4s\""] {
        let lines = format!("balancer = \"random\"\n{slow_start}");
        let proxy = Mesh::new().section(service(&[(a.addr, 1, "one")], &lines)).start();
        let began = Instant::now();
        answers(&proxy, 1);
        if !slow_start.is_empty() {
            std::thread::sleep(SLOW);
        }
        let both = service(&[(a.addr, 1, "one"), (b.addr, 1, "one")], &lines);
        proxy.rewrite_in_place(&Mesh { sections: vec![both], ..proxy.mesh.clone() });
        let new = |requests| answers(&proxy, requests)[&'b'];
        eventually("the new one is asked", Duration::from_secs(10), || (new(20) > 0).then_some(()));
        let (found, early) = (Instant::now(), new(REQUESTS));
        // On a machine that is too busy it may not be new any more.
        let in_time = found.elapsed() < SLOW / 4;
        tell(&format!("{slow_start}: {early} of {REQUESTS} after {:?}", began.elapsed()));
        if slow_start.is_empty() {
            assert!(about(0.5).contains(&early), "{early}");
            continue;
        }
        assert!(!in_time || early < *about(0.5).start(), "{early}");
        std::thread::sleep(SLOW);
        let late = new(REQUESTS);
        assert!(about(0.5).contains(&late), "{late}");
    }
}
