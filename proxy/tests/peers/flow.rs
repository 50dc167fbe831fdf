//! Opaque TCP that carries much, between sockets of Python's: what flows passes through pipes of the
//! kernel's, and arrives as it was sent.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::common::{Mesh, Need, Peer, Proxy, eventually, full, have, run, script};

/// For as much as there is here, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(2);

fn flow(words: &str, to: SocketAddr, rest: &str) -> Command {
    let mut command = script("flow.py");
    command.args([words, &to.ip().to_string(), &to.port().to_string()]).args(rest.split(' '));
    command
}

fn proxied(mode: &str) -> (Peer, Proxy) {
    let server = Peer::start(script("flow.py").arg(mode));
    let mut proxy = Mesh::new().forward(&[server.addr]).start();
    proxy.wait_until_ready();
    (server, proxy)
}

/// Descriptors of pipes that the proxy has open.
fn pipes(proxy: &Proxy) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid())).expect("no descriptors");
    let links = all.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

/// Bytes of clients that went through pipes, of all that were read of them.
fn spliced(proxy: &Proxy) -> [u64; 2] {
    let of = |name: &str| {
        proxy.metric(&format!("tcp_{name}_bytes_total{{direction=\"outbound\",peer=\"src\"}}"))
    };
    [of("spliced"), of("read")]
}

/// Runs a client to its end; how many pipes there were at most, and what it said.
fn watch(proxy: &Proxy, mut client: Command) -> (usize, String) {
    std::thread::scope(|scope| {
        let ran = scope.spawn(move || run(&mut client, PATIENCE).ok().text());
        let mut most = 0;
        while !ran.is_finished() {
            most = most.max(pipes(proxy));
            std::thread::sleep(Duration::from_millis(2));
        }
        (most, ran.join().expect("the client"))
    })
}

/// Bytes, in millions.
fn much() -> usize {
    if full() { 1000 } else { 100 }
}

#[test]
fn much_arrives_unchanged_both_ways_and_half_closes() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (_server, proxy) = proxied("serve");
    let idle = pipes(&proxy);
    let m = much();
    // Both at once, and one way at a time: what is over is closed while the other goes on.
    for (down, up) in [(m, m), (m, 0), (0, m), (m, m / 10), (m / 10, m)] {
        let (down, up) = (down * 1_000_000, up * 1_000_000);
        let ask = flow("ask", proxy.forward(0), &format!("{down} {up}"));
        let (most, said) = watch(&proxy, ask);
        let expected = format!("{} bytes\ntheirs arrived\nours arrived\n", down + 40);
        assert_eq!(said, expected, "{down} bytes down, {up} up");
        assert!(most > idle, "no pipe was used");
    }
    // How much depends on who is faster: what comes in small parts is read.
    let [spliced, read] = spliced(&proxy);
    let total = 3 * m as u64 * 1_000_000;
    assert!(read > total && (1..=read).contains(&spliced), "{spliced} of {read} bytes");
}

#[test]
fn a_slow_reader_of_much_gets_all_of_it() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (_server, proxy) = proxied("serve");
    let idle = pipes(&proxy);
    let bytes = much() * 1_000_000;
    let (most, said) = watch(&proxy, flow("ask", proxy.forward(0), &format!("{bytes} 1000 0.3")));
    assert_eq!(said, format!("{} bytes\ntheirs arrived\nours arrived\n", bytes + 40));
    assert!(most > idle, "no pipe was used");
    let peak = proxy.memory("VmHWM");
    assert!(peak < 30_000_000, "{peak} bytes resident");
}

#[test]
fn a_reset_of_what_flows_is_passed_on() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (server, proxy) = proxied("serve");
    let idle = pipes(&proxy);
    let bytes = much() * 1_000_000;
    // By the server. Of what it sent before, the client gets a part at most.
    let said =
        run(&mut flow("ask", proxy.forward(0), &format!("-{bytes} 0")), PATIENCE).ok().text();
    assert_eq!(said, "reset\n");
    // By the client.
    run(&mut flow("leave", proxy.forward(0), "20000000"), PATIENCE).ok();
    eventually("the server is told", PATIENCE, || server.output().contains("reset").then_some(()));
    // What was in a pipe is gone with it; one that is empty may wait for the next flow.
    eventually("pipes are closed", PATIENCE, || (pipes(&proxy) <= idle + 2).then_some(()));
    let said = run(&mut flow("ask", proxy.forward(0), "1000000 1000000"), PATIENCE).ok().text();
    assert_eq!(said, "1000040 bytes\ntheirs arrived\nours arrived\n");
}

/// Bytes of endpoints that went through pipes, that were read of them, and that clients were sent.
fn downstream(proxy: &Proxy) -> [u64; 3] {
    let metrics = proxy.admin("/metrics").expect("no metrics");
    let of = |name: &str, peer: &str| {
        let name = format!("tcp_{name}_bytes_total{{direction=\"outbound\",peer=\"{peer}\"");
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(&name)?.split_once("} "));
        lines.map(|(_, value)| value.parse::<u64>().expect("a number")).sum()
    };
    [of("spliced", "dst"), of("read", "dst"), of("write", "src")]
}

/// A client of a flood that reads no more when nothing moves, and what the proxy holds for it is in a
/// pipe; what it has read. It takes some more where that is not so: what came first, or fills up last,
/// may have been read.
fn held_up(proxy: &Proxy) -> (TcpStream, Vec<u8>) {
    let mut client = TcpStream::connect(proxy.forward(0)).expect("cannot connect");
    client.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
    // More than anybody waits for.
    writeln!(client, "{}", 1_u64 << 50).expect("cannot ask");
    let (mut got, mut block) = (Vec::new(), vec![0; 8 << 20]);
    let mut last = downstream(proxy);
    // How much came by splice alone, up to now; and for how many looks nothing has moved.
    let (mut streak, mut still) = (0, 0);
    eventually("bytes wait in a pipe", 4 * PATIENCE, || {
        let now = downstream(proxy);
        let [new, came] = [0, 1].map(|at| now[at] - last[at]);
        streak = if new == came { streak + came } else { 0 };
        still = if now == last { still + 1 } else { 0 };
        last = now;
        if still < 5 {
            return None;
        }
        if (1..=streak).contains(&(now[1] - now[2])) {
            return Some(());
        }
        client.read_exact(&mut block).expect("cannot read");
        got.extend_from_slice(&block);
        (streak, still) = (0, 0);
        None
    });
    (client, got)
}

#[test]
fn a_reset_behind_what_is_in_a_pipe_is_no_end() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (_server, proxy) = proxied("flood");
    let idle = pipes(&proxy);
    let (mut client, _) = held_up(&proxy);
    assert!(pipes(&proxy) > idle, "what waits is in no pipe");
    client.write_all(b"reset\n").expect("cannot write");
    let mut block = vec![0; 1 << 18];
    let end = loop {
        match client.read(&mut block) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    eventually("the pipe is closed", PATIENCE, || (pipes(&proxy) <= idle + 2).then_some(()));
}

#[test]
fn a_fin_behind_what_is_in_a_pipe_comes_after_all_of_it() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (server, proxy) = proxied("flood");
    // What it sends again and again, without a proxy.
    let mut period = Vec::new();
    let mut direct = TcpStream::connect(server.addr).expect("cannot connect");
    direct.write_all(b"1000003\n").expect("cannot ask");
    direct.read_to_end(&mut period).expect("cannot read");
    let (mut client, mut got) = held_up(&proxy);
    client.write_all(b"e").expect("cannot write");
    client.read_to_end(&mut got).expect("a clean end");
    assert!(got.chunks(period.len()).all(|part| period.starts_with(part)), "other bytes");
    let [spliced, read, sent] = downstream(&proxy);
    assert_eq!((read, sent), (got.len() as u64, got.len() as u64));
    assert!(spliced > 0 && spliced <= read, "{spliced} of {read} bytes");
}

#[test]
fn many_short_messages_use_no_pipe() {
    if !have(&[Need::Program("python3")]) {
        return;
    }
    let (_server, proxy) = proxied("echo");
    let idle = pipes(&proxy);
    let (most, said) = watch(&proxy, flow("talk", proxy.forward(0), "5000"));
    assert_eq!((most, said), (idle, "5000 messages\n".into()));
    assert_eq!(spliced(&proxy), [0, 500_000]);
}
