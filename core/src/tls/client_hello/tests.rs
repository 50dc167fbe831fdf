#![expect(clippy::unnecessary_wraps, reason = "answers to compare with")]

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::*;

const LIMIT: usize = 64 * 1024;

/// What a scanner says, without the borrow.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hello {
    server_name: Option<String>,
    protocols: Vec<Vec<u8>>,
}

type Answer = Result<Option<Hello>, Malformed>;

fn scan(scanner: &mut HelloScanner, buf: &[u8], limit: usize) -> Answer {
    let mut scratch = Vec::new();
    let hello = scanner.scan(buf, &mut scratch, limit)?;
    Ok(hello.map(|hello| Hello {
        server_name: hello.server_name.map(String::from),
        protocols: hello.protocols.iter().map(<[u8]>::to_vec).collect(),
    }))
}

fn whole(buf: &[u8]) -> Answer {
    scan(&mut HelloScanner::default(), buf, LIMIT)
}

fn named(name: &str) -> Answer {
    Ok(Some(Hello { server_name: Some(name.into()), protocols: Vec::new() }))
}

fn nameless() -> Answer {
    Ok(Some(Hello { server_name: None, protocols: Vec::new() }))
}

// ---- Building ----

/// `body` behind its length of two bytes.
fn vector(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u16).to_be_bytes(), body].concat()
}

pub(crate) fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(body)].concat()
}

fn host(name: &[u8]) -> Vec<u8> {
    [&[0], &vector(name)[..]].concat()
}

pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &vector(&host(name)))
}

pub(crate) fn alpn(names: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> =
        names.iter().flat_map(|name| [&[name.len() as u8], *name].concat()).collect();
    extension(16, &vector(&list))
}

/// What a hello has before its extensions.
fn fixed() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend((0..32).map(|n| n * 7));
    hello.push(32);
    hello.extend((0..32).map(|n| 255 - n));
    // A GREASE suite and two real ones; only null compression.
    hello.extend([0, 6, 0x0a, 0x0a, 0x13, 0x01, 0x13, 0x02, 1, 0]);
    hello
}

/// A handshake message with these extensions.
pub(crate) fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    handshake(&[fixed(), vector(&extensions.concat())].concat())
}

fn handshake(body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], body].concat()
}

/// `message` in records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|fragment| [&[HANDSHAKE, 3, 1], &vector(fragment)[..]].concat())
        .collect()
}

pub(crate) fn record(message: &[u8]) -> Vec<u8> {
    records(message, MAX_FRAGMENT)
}

/// A hello like those of browsers: GREASE first and last, a key share of `share` bytes.
fn browser(share: usize) -> Vec<u8> {
    message(&[
        extension(0x2a2a, &[]),
        sni(b"web.example"),
        extension(0x002b, &[6, 0x1a, 0x1a, 3, 4, 3, 3]),
        alpn(&[b"h2", b"http/1.1"]),
        extension(0x0033, &vector(&vec![0x55; share])),
        extension(0xfe0d, &[0; 186]),
        extension(0xbaba, &[0]),
    ])
}

fn browser_says() -> Answer {
    let protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Hello { server_name: Some("web.example".into()), protocols }))
}

// ---- Cuts ----

/// The same answer at every cut in two pieces and byte by byte, and no earlier than it can be.
fn check_cuts(input: &[u8], expected: &Answer) {
    let mut bytewise = HelloScanner::default();
    let decided = (0..=input.len()).find(|&n| scan(&mut bytewise, &input[..n], LIMIT) != Ok(None));
    let decided = decided.expect("decided at the end");
    for first in 0..=input.len() {
        let mut scanner = HelloScanner::default();
        let early = scan(&mut scanner, &input[..first], LIMIT);
        assert_eq!(early, if first < decided { Ok(None) } else { expected.clone() }, "at {first}");
        assert_eq!(scan(&mut scanner, input, LIMIT), *expected, "after {first}");
        assert_eq!(scan(&mut scanner, input, LIMIT), *expected, "an answer is final");
    }
}

#[test]
fn every_size_of_records_and_every_cut_says_the_same() {
    let message = browser(64);
    for size in 1..=message.len() {
        let input = records(&message, size);
        assert_eq!(whole(&input), browser_says(), "records of {size}");
        if size < 12 || size % 37 == 0 {
            check_cuts(&input, &browser_says());
        }
    }
}

#[test]
fn two_records_may_part_anywhere() {
    let message = browser(64);
    for at in 1..message.len() {
        let (first, second) = message.split_at(at);
        let input = [record(first), record(second)].concat();
        assert_eq!(whole(&input), browser_says(), "at {at}");
    }
}

#[test]
fn what_follows_the_last_record_is_not_looked_at() {
    let mut input = record(&browser(64));
    let len = input.len();
    for byte in 0..=u8::MAX {
        input.truncate(len);
        // Early data, for one.
        input.extend([byte; 9]);
        assert_eq!(whole(&input), browser_says());
    }
}

#[test]
fn extensions_are_borrowed_unless_they_lie_in_several_records() {
    let mut scratch = Vec::new();
    let message = browser(64);
    let input = record(&message);
    let hello = HelloScanner::default().scan(&input, &mut scratch, LIMIT);
    let name = hello.expect("a hello").and_then(|hello| hello.server_name).expect("a name");
    assert!(input.as_ptr_range().contains(&name.as_ptr()));
    assert!(scratch.is_empty());
    let input = records(&message, 1);
    assert!(HelloScanner::default().scan(&input, &mut scratch, LIMIT).is_ok());
    assert!(scratch.len() < 40, "nothing else is copied");
}

// ---- Sizes ----

#[test]
fn post_quantum_hellos_of_many_records_are_read() {
    for share in [1_216, 16_000, 40_000, 60_000] {
        let message = browser(share);
        for size in [1_000, MAX_FRAGMENT] {
            assert_eq!(whole(&records(&message, size)), browser_says(), "{share} in {size}");
        }
    }
}

#[test]
fn the_limit_is_where_it_is_said() {
    for size in [7, 100, MAX_FRAGMENT] {
        let input = records(&browser(20_000), size);
        let scan_with = |limit| scan(&mut HelloScanner::default(), &input, limit);
        assert_eq!(scan_with(input.len()), browser_says());
        assert_eq!(scan_with(input.len() - 1), Err(Malformed::TooLarge));
    }
    // The message says at its beginning that it will be too long.
    assert_eq!(whole(b"\x16\x03\x01\x40\x00\x01\x01\x00\x00"), Err(Malformed::TooLarge));
    assert_eq!(whole(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"), Err(Malformed::TooLarge));
    assert_eq!(whole(b"\x16\x03\x01\x40\x00\x01\x00\xff\x00"), Ok(None));
}

#[test]
fn a_long_hello_byte_by_byte_is_linear_work() {
    let input = records(&browser(50_000), 1_000);
    let mut scanner = HelloScanner::default();
    for n in 0..input.len() {
        let before = scanner.read;
        assert_eq!(scan(&mut scanner, &input[..n], LIMIT), Ok(None));
        assert!(scanner.read <= n && scanner.read - before <= RECORD_HEADER + 1);
        // Nothing that was read is read again, but for a record header that is not complete.
        assert!(n - scanner.read < RECORD_HEADER);
    }
    assert_eq!(scan(&mut scanner, &input, LIMIT), browser_says());
}

// ---- What is in a hello ----

#[test]
fn names_are_what_rfc_6066_allows_and_a_little_more() {
    let long = [b'a'; 63];
    let longest = [&long[..], &long, &long, &long[..61]].join(&b'.');
    assert_eq!(longest.len(), 253);
    let dotted = [&longest[..], b"."].concat();
    for (name, expected) in [
        (&b"web.example"[..], "web.example"),
        (b"Web.EXAMPLE", "Web.EXAMPLE"),
        (b"web.example.", "web.example"),
        (b"localhost", "localhost"),
        (b"xn--bcher-kva.example", "xn--bcher-kva.example"),
        (b"my_service.ns", "my_service.ns"),
        (b"-a-.b-", "-a-.b-"),
        (b"1and1.example", "1and1.example"),
        (b"web.ns.serviceaccount.identity.linkerd.cluster.local", {
            "web.ns.serviceaccount.identity.linkerd.cluster.local"
        }),
        (&longest, str::from_utf8(&longest).expect("ASCII")),
        (&dotted, str::from_utf8(&longest).expect("ASCII")),
    ] {
        assert_eq!(whole(&record(&message(&[sni(name)]))), named(expected));
    }
    for address in ["10.0.0.1", "127.0.0.1", "::1", "2001:db8::5", "::ffff:10.0.0.1"] {
        let input = record(&message(&[sni(address.as_bytes())]));
        assert_eq!(whole(&input), nameless(), "{address}");
    }
    let too_long_label = [b'a'; 64];
    let too_long = [&long[..], &long, &long, &long[..62]].join(&b'.');
    for name in [
        &b""[..],
        b".",
        b"..",
        b".web",
        b"web..example",
        b"web.example..",
        b"web example",
        b"web.example:443",
        b"[::1]",
        b"*.example",
        b"web\0.example",
        b"web.example\n",
        b"https://web.example",
        b"b\xc3\xbccher.example",
        b"\xff\xfe",
        &too_long_label,
        &too_long,
    ] {
        let input = record(&message(&[sni(name)]));
        assert_eq!(whole(&input), Err(Malformed::ServerName), "{}", name.escape_ascii());
    }
}

#[test]
fn lists_of_names_are_checked() {
    let list = |body: &[u8]| whole(&record(&message(&[extension(0, body)])));
    let ours = host(b"web.example");
    assert_eq!(list(&vector(&ours)), named("web.example"));
    // A name of another type has a length, whatever else it is.
    let other = [&[7], &vector(b"\xff\x00")[..]].concat();
    assert_eq!(list(&vector(&[&other[..], &ours].concat())), named("web.example"));
    assert_eq!(list(&vector(&[&ours[..], &other].concat())), named("web.example"));
    assert_eq!(list(&vector(&other)), nameless());
    let twice = vector(&[&ours[..], &host(b"other.example")].concat());
    assert_eq!(list(&twice), Err(Malformed::ServerNameRepeated));
    let mut short = vector(&ours);
    short[1] -= 1;
    let mut long = vector(&ours);
    long[1] += 1;
    let mut lies = vector(&ours);
    lies[4] += 1;
    for body in [&[][..], &[0], &[0, 0], &[0, 1, 0], &[0, 3, 0, 0, 1], &short, &long, &lies] {
        assert_eq!(list(body), Err(Malformed::ServerNameList), "{body:02x?}");
    }
    let behind = [vector(&ours), vec![0]].concat();
    assert_eq!(list(&behind), Err(Malformed::ServerNameList));
}

#[test]
fn lists_of_protocols_are_checked() {
    let longest = [b'x'; 255];
    let names: &[&[u8]] = &[b"transport.l5d.io/v1", b"h2", &longest, b"\x0a\x0a", b"\0"];
    let mut scratch = Vec::new();
    let input = record(&message(&[alpn(names)]));
    let hello = HelloScanner::default().scan(&input, &mut scratch, LIMIT);
    let protocols = hello.expect("a hello").expect("complete").protocols;
    assert_eq!(protocols.iter().collect::<Vec<_>>(), names);
    assert!(protocols.contains(b"h2") && !protocols.contains(b"H2") && !protocols.is_empty());
    let list = |body: &[u8]| whole(&record(&message(&[extension(16, body)])));
    for body in [
        &[][..],
        &[0],
        &[0, 0],
        &[0, 1, 0],
        &[0, 3, 2, b'h'],
        &[0, 2, 2, b'h', b'2'],
        &[0, 3, 2, b'h', b'2', 0],
        &[0, 4, 2, b'h', b'2', 0],
        &[0, 3, 3, b'h', b'2'],
        &[0, 4, 2, b'h', b'2'],
    ] {
        assert_eq!(list(body), Err(Malformed::ProtocolList), "{body:02x?}");
    }
}

#[test]
fn hellos_without_name_or_extensions_are_hellos() {
    assert_eq!(whole(&record(&message(&[]))), nameless());
    assert_eq!(whole(&record(&message(&[extension(0x0a0a, &[])]))), nameless());
    // TLS 1.2 and older may end after the compression methods.
    let bare = record(&handshake(&fixed()));
    assert_eq!(whole(&bare), nameless());
    check_cuts(&bare, &nameless());
    // SSL 3.0 to TLS 1.3, in the record and in the message.
    for (minor, message_minor) in (0..=4).flat_map(|a| (0..=4).map(move |b| (a, b))) {
        let mut input = record(&message(&[sni(b"web.example")]));
        (input[2], input[RECORD_HEADER + MESSAGE_HEADER + 1]) = (minor, message_minor);
        assert_eq!(whole(&input), named("web.example"));
    }
}

#[test]
fn two_of_the_extensions_that_route_are_refused_and_other_pairs_are_not_ours_to_judge() {
    let both = message(&[sni(b"a.example"), sni(b"b.example")]);
    assert_eq!(whole(&record(&both)), Err(Malformed::ServerNameRepeated));
    let both = message(&[alpn(&[b"h2"]), alpn(&[b"h2"])]);
    assert_eq!(whole(&record(&both)), Err(Malformed::ProtocolsRepeated));
    let grease = extension(0x1a1a, &[]);
    let others = message(&[grease.clone(), sni(b"a.example"), grease]);
    assert_eq!(whole(&record(&others)), named("a.example"));
}

// ---- What is none ----

/// `fixed` and an SNI, with one byte of the message changed.
fn changed(at: usize, byte: u8) -> Vec<u8> {
    let mut message = message(&[sni(b"web.example")]);
    message[at] = byte;
    record(&message)
}

#[test]
fn each_thing_that_can_be_wrong_has_its_reason_at_every_cut() {
    use Malformed as M;
    let hello = MESSAGE_HEADER;
    let (session, suites, compression) = (hello + 34, hello + 67, hello + 75);
    let extensions = compression + 2;
    let mut cases = vec![
        (changed(0, 2), M::MessageType),
        (changed(0, 0), M::MessageType),
        (changed(hello, 2), M::Version),
        (changed(hello, 254), M::Version),
        (changed(session, 33), M::SessionId),
        (changed(session, 255), M::SessionId),
        (changed(suites + 1, 0), M::CipherSuites),
        (changed(suites + 1, 7), M::CipherSuites),
        (changed(suites, 0xff), M::Length),
        (changed(compression, 0), M::Compression),
        (changed(compression, 255), M::Length),
        (changed(extensions + 1, 0), M::ExtensionsLength),
        (changed(extensions, 1), M::ExtensionsLength),
        (changed(extensions + 4, 1), M::Length),
        (changed(extensions + 5, 0xff), M::Length),
        // One less leaves a byte that is no extension.
        (changed(extensions + 5, 15), M::Length),
        // The message says that it is shorter, or that there is more in the record.
        (changed(3, 0), M::Length),
        (changed(3, 1), M::Length),
    ];
    let good = message(&[sni(b"web.example")]);
    let mut trailing = good.clone();
    trailing.push(0);
    cases.push((record(&trailing), M::Trailing));
    // A second record of another kind, version, or length.
    let (first, rest) = good.split_at(20);
    let second = |start: &[u8]| [&record(first)[..], start, &vector(rest), rest].concat();
    cases.extend([
        (second(&[20, 3, 3]), M::RecordType),
        (second(&[21, 3, 3]), M::RecordType),
        (second(&[23, 3, 3]), M::RecordType),
        (second(b"GET"), M::RecordType),
        (second(&[22, 2, 3]), M::RecordVersion),
        (second(&[22, 3, 5]), M::RecordVersion),
        (second(&[22, 3, 1, 0, 0]), M::RecordLength),
        (second(&[22, 3, 1, 0x40, 0x01]), M::RecordLength),
        (second(&[22, 3, 1, 0xff, 0xff]), M::RecordLength),
    ]);
    // Messages that end in each of their fields.
    let body = &good[MESSAGE_HEADER..];
    for n in 0..body.len() {
        let reason = match n {
            // Exactly what is there without extensions.
            77 => continue,
            0..79 => M::Length,
            _ => M::ExtensionsLength,
        };
        cases.push((record(&handshake(&body[..n])), reason));
    }
    for (input, reason) in cases {
        // What follows changes nothing.
        for after in [&[][..], &[0; 40]] {
            let input = [&input[..], after].concat();
            check_cuts(&input, &Err(reason));
        }
    }
}

#[test]
fn every_byte_in_every_place_is_read_without_a_panic_and_alike_at_every_cut() {
    let good = records(&message(&[sni(b"a.b"), alpn(&[b"h2"])]), 50);
    for at in 0..good.len() {
        for byte in [0, 1, 2, 3, 22, 50, 127, 128, 255] {
            let mut input = good.clone();
            input[at] = byte;
            let expected = whole(&input);
            let mut scanner = HelloScanner::default();
            let bytewise = (0..=input.len())
                .map(|n| scan(&mut scanner, &input[..n], LIMIT))
                .find(|answer| *answer != Ok(None));
            assert_eq!(bytewise.unwrap_or(Ok(None)), expected);
        }
    }
}

#[test]
fn reasons_index_themselves_and_have_distinct_labels() {
    for (index, &reason) in Malformed::ALL.iter().enumerate() {
        assert_eq!(reason as usize, index);
        assert!(Malformed::ALL[..index].iter().all(|other| other.label() != reason.label()));
    }
}
