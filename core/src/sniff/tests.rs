use alloc::vec::Vec;

use super::Protocol::{Http1, Http2, Opaque, Tls};
use super::*;

/// What is expected of an input. `read` ends with the byte that decides; `rest` follows it and
/// changes nothing.
struct Case {
    read: &'static [u8],
    rest: &'static [u8],
    protocol: Protocol,
}

const fn case(protocol: Protocol, read: &'static [u8], rest: &'static [u8]) -> Case {
    Case { read, rest, protocol }
}

const DECIDED: &[Case] = &[
    // Registered methods decide at their space, whatever follows.
    case(Http1, b"GET ", b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    case(Http1, b"POST ", b"/ HTTP/1.0\r\n\r\n"),
    case(Http1, b"QUERY ", b"/search HTTP/1.1\r\n"),
    case(Http1, b"PROPFIND ", b"/ HTTP/1.1\r\n"),
    case(Http1, b"VERSION-CONTROL ", b"/ HTTP/1.1\r\n"),
    case(Http1, b"OPTIONS ", b"* HTTP/1.1\r\n"),
    case(Http1, b"CONNECT ", b"db.example:5432 HTTP/1.1\r\n"),
    case(Http1, b"GET ", b""),
    case(Http1, b"GET ", b"\0\x01\x02 rubbish"),
    case(Http1, b"GET ", b"\t/ HTTP/1.1\r\n"),
    case(Http1, b"GET ", b"/\n"),
    case(Http1, b"DELETE ", b"/ HTTP/2.0\r\n"),
    // RFC 9112 §2.2: empty lines before the request line.
    case(Http1, b"\r\nGET ", b"/ HTTP/1.1\r\n"),
    case(Http1, b"\r\n\r\n\r\n\r\nGET ", b"/ HTTP/1.1\r\n"),
    case(Http1, b"\r\nFOO / HTTP/1.1\r\n", b"\r\n"),
    case(Opaque, b"\r\n\r\n\r\n\r\n\r", b"\nGET / HTTP/1.1\r\n"),
    case(Opaque, b"\n", b"GET / HTTP/1.1\r\n"),
    case(Opaque, b"\r\n\n", b"GET / HTTP/1.1\r\n"),
    case(Opaque, b"\rG", b"ET / HTTP/1.1\r\n"),
    case(Opaque, b"\r\r", b"\n"),
    case(Http1, b"\r\n GET / HTTP/1.1\r\n", b""),
    case(Http1, b"\r\n\t HTTP/1.0\r\n", b""),
    case(Opaque, b"\r\n \r", b"\n"),
    case(Opaque, b"\r\n\x16", b"\x03\x01\x02\x00\x01"),
    // Other methods: the line has to say that it is HTTP.
    case(Http1, b"FOO / HTTP/1.1\r\n", b"\r\n"),
    case(Http1, b"FOO / HTTP/1.1\n", b"\n"),
    case(Http1, b"get / HTTP/1.1\r\n", b""),
    case(Http1, b"Get / HTTP/1.1\r\n", b""),
    case(Http1, b"GETX / HTTP/1.1\r\n", b""),
    case(Http1, b"PRIX * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n"),
    case(Http1, b"* / HTTP/1.1\r\n", b""),
    case(Http1, b"FOO /a b c HTTP/1.1\r\n", b""),
    case(Http1, b"FOO /\x80\xff HTTP/1.1\r\n", b""),
    case(Http1, b"FOO  HTTP/0.9\r\n", b""),
    case(Http1, b"FOO HTTP/9.9\r\n", b""),
    case(Http1, b"F HTTP/1.1\n", b""),
    case(Http1, b"FOO  HTTP/1.1 HTTP/1.1\r\n", b""),
    case(Opaque, b"FOO /\r", b"\n"),
    case(Opaque, b"FOO / http/1.1\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.1 \r", b"\n"),
    case(Opaque, b"FOO / HTTP/11\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.x\r", b"\n"),
    case(Opaque, b"FOO / HTTP/x.1\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.10\r", b"\n"),
    case(Opaque, b"FOO /HTTP/1.1\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1,1\n", b""),
    case(Opaque, b"FOO / HTTP/1.1\r\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.1\rX", b""),
    case(Opaque, b"FOO / HTTP/1.1\r ", b"\n"),
    case(Opaque, b"FOO /\tHTTP/1.1\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.1\t\r", b"\n"),
    case(Opaque, b"FOO / HTTP/1.1\t\n", b""),
    case(Opaque, b"FOO /\0", b" HTTP/1.1\r\n"),
    case(Opaque, b"FOO /\x7f", b" HTTP/1.1\r\n"),
    case(Opaque, b"FOO /\x1b", b" HTTP/1.1\r\n"),
    case(Opaque, b"GET\r", b"\n"),
    case(Opaque, b"GET\n", b""),
    case(Opaque, b"GET\0", b""),
    case(Opaque, b"G\xc3", b"\x89T / HTTP/1.1\r\n"),
    case(Opaque, b"\xff", b" / HTTP/1.1\r\n"),
    case(Opaque, b"HTTP/1.1 200 OK\r", b"\n"),
    // No request lines at all, but they say that they are HTTP.
    case(Http1, b"G(T / HTTP/1.1\r\n", b"Host: a\r\n\r\n"),
    case(Http1, b"\"GET\" / HTTP/1.1\n", b""),
    case(Http1, b"{\"a\":1} HTTP/1.1\r\n", b""),
    case(Http1, b" GET / HTTP/1.1\r\n", b""),
    case(Http1, b" GET / HTTP/1.1\n", b""),
    case(Http1, b"  HTTP/1.1\r\n", b""),
    case(Http1, b" HTTP/1.1\n", b""),
    case(Http1, b" \x80\xff HTTP/1.1\r\n", b""),
    case(Http1, b"\tGET / HTTP/1.1\r\n", b""),
    case(Http1, b"GET\t/ HTTP/1.1\r\n", b""),
    case(Http1, b"GET\t/\t HTTP/1.1\r\n", b""),
    case(Http1, b"FOO /\tb HTTP/1.1\r\n", b""),
    case(Http1, b"FOO \t HTTP/1.1\r\n", b""),
    case(Http1, b"GET/ HTTP/1.1\r\n", b""),
    case(Http1, b"/ HTTP/1.1\r\n", b""),
    case(Http1, b"~ HTTP/1.1\r\n", b""),
    case(Http1, b"HTTP/1.1 HTTP/1.1\r\n", b""),
    case(Opaque, b"HTTP/1.1\r", b"\n"),
    case(Opaque, b"GET/HTTP/1.1\n", b""),
    case(Opaque, b"GET\t/\tHTTP/1.1\r", b"\n"),
    case(Opaque, b" GET /\r", b"\n"),
    case(Opaque, b" \x16", b"\x03\x01\x02\x00\x01 HTTP/1.1\r\n"),
    case(Opaque, b" \x7f", b" HTTP/1.1\r\n"),
    case(Opaque, b"\t\xff", b" / HTTP/1.1\r\n"),
    case(Opaque, b"\t\n", b""),
    case(Opaque, b"G(T\x0b", b"/ HTTP/1.1\r\n"),
    case(Opaque, b"\x7f", b" / HTTP/1.1\r\n"),
    // HTTP/2 with prior knowledge.
    case(Http2, PREFACE, b""),
    case(Http2, PREFACE, b"\0\0\0\x04\0\0\0\0\0"),
    case(Http1, b"PRI /", b" HTTP/1.1\r\n"),
    case(Http1, b"PRI * HTTP/1", b".1\r\n\r\n"),
    case(Http1, b"PRI * HTTP/2.0\n", b"\nSM\n\n"),
    case(Http1, b"PRI * HTTP/2.0\r\n\r\nSN", b"\r\n\r\n"),
    case(Http1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b""),
    case(Http1, b"\r\nPRI ", b"* HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    case(Http1, b"PRI\t* HTTP/2.0\r\n", b"\r\nSM\r\n\r\n"),
    case(Http1, b" PRI * HTTP/2.0\r\n", b"\r\nSM\r\n\r\n"),
    case(Opaque, b"pri * HTTP/2\r", b"\n"),
    case(Opaque, b"PRIVMSG #room :hello\r", b"\n"),
    // TLS.
    case(Tls, b"\x16\x03\x01\x02\x00\x01", b"\x00\x01\xfc\x03\x03"),
    case(Tls, b"\x16\x03\x00\x00\x01\x01", b""),
    case(Tls, b"\x16\x03\x03\x41\x00\x01", b""),
    case(Tls, b"\x16\x03\x04\x00\xff\x01", b""),
    case(Opaque, b"\x16\x02", b"\x00\x02\x00\x01"),
    case(Opaque, b"\x16\x04", b""),
    case(Opaque, b"\x16\x16", b"\x16"),
    case(Opaque, b"\x16\x03\x05", b"\x02\x00\x01"),
    case(Opaque, b"\x16\x03\x01\x42", b"\x00\x01"),
    case(Opaque, b"\x16\x03\x01\x41\x01", b"\x01"),
    case(Opaque, b"\x16\x03\x01\x00\x00", b"\x01"),
    case(Opaque, b"\x16\x03\x01\x02\x00\x02", b""),
    case(Opaque, b"\x15", b"\x03\x01\x00\x02\x02\x28"),
    case(Opaque, b"\x80", b"\x2e\x01\x03\x01"),
    // What else lives on TCP.
    case(Opaque, b"*3\r", b"\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"), // Redis
    case(Opaque, b"PING\r", b"\n"),                                  // Redis, NATS
    case(Opaque, b"SET key value\r", b"\n"),                         // Redis, inline
    case(Opaque, b"set key 0 0 5\r", b"\nhello\r\n"),                // memcached
    case(Opaque, b"get key\r", b"\n"),
    case(Opaque, b"\x80", b"\x00\x00\x03\x00\x00\x00\x00"), // memcached, binary
    case(Opaque, b"EHLO client.example\r", b"\n"),          // SMTP
    case(Opaque, b"USER anonymous\r", b"\n"),               // FTP, POP3
    case(Opaque, b"a001 LOGIN me secret\r", b"\n"),         // IMAP
    case(Opaque, b"NICK me\r", b"\nUSER me 0 * :Me\r\n"),   // IRC
    case(Opaque, b":server 001 me :Welcome\r", b"\n"),
    case(Opaque, b"SSH-2.0-OpenSSH_9.6\r", b"\n"),
    case(Opaque, b"SSH-2.0-OpenSSH_9.6p1 Debian-3\r", b"\n"),
    case(Opaque, b"INVITE sip:a@b.example SIP/2.0\r", b"\n"),
    case(Opaque, b"DESCRIBE rtsp://b.example/ RTSP/1.0\r", b"\n"),
    case(Opaque, b"STOMP\n", b"accept-version:1.2\n\n\0"),
    case(Opaque, b"SUB news 1\r", b"\n"), // NATS
    case(Opaque, b"0032git-upload-pack /p\0", b"host=a\0"), // git
    case(Opaque, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r", b"\n"),
    case(Opaque, b"\r\n\r\n\0", b"\r\nQUIT\n"), // PROXY protocol, version 2
    case(Opaque, b"\0", b"\0\0\x08\x04\xd2\x16\x2f"), // PostgreSQL, SSLRequest
    case(Opaque, b"J\0", b"\0\0\n8.0.36\0"),    // MySQL, greeting
    case(Opaque, b":\0", b"\0\0\x01\0\0\0\0\0\0\0\xd4\x07\0\0"), // MongoDB
    case(Opaque, b"A\x01", b"\0\0\x01\0\0\0"),
    case(Opaque, b"\0", b"\0\0\x23\0\x12\0\x03"), // Kafka
    case(Opaque, b"AMQP\0", b"\0\x09\x01"),
    case(Opaque, b"\x10", b"\x10\0\x04MQTT\x04"), // MQTT
    case(Opaque, b"\x04", b"\0\0\0\x01"),         // Cassandra
    case(Opaque, b"\x03", b"\0\0\x13\x0e\xe0"),   // RDP
    case(Opaque, b"0\x0c", b"\x02\x01\x01"),      // LDAP
    case(Opaque, b"0%\x02", b"\x01\x01"),
    case(Opaque, b"8=FIX.4.4\x01", b"9=65\x01"),
    case(Opaque, b"<policy-file-request/>\0", b""),
    case(Opaque, b"<?xml version='1.0'?>\n", b"<stream:stream>"), // XMPP
    case(Opaque, b"{\"jsonrpc\":\"2.0\"}\n", b""),
    case(Opaque, b"app.requests:1|c\n", b""), // StatsD
    case(Opaque, b"app.requests 1 1700000000\n", b""), // Graphite
    case(Opaque, b"@RSYNCD: 31.0\n", b""),
    case(Opaque, b"\xff", b"\xfd\x18"), // telnet
    case(Opaque, b"\xef", b"\xbb\xbfGET / HTTP/1.1\r\n"),
];

/// Nothing to be decided yet.
const UNDECIDED: &[&[u8]] = &[
    b"",
    b"G",
    b"GET",
    b"UPDATEREDIRECTREF",
    b"\r",
    b"\r\n",
    b"\r\n\r\n\r\n\r\n",
    b"\r\n\r",
    b"PRI ",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
    b"\x16",
    b"\x16\x03",
    b"\x16\x03\x03",
    b"\x16\x03\x03\x41",
    b"\x16\x03\x03\x41\x00",
    b"FOO ",
    b"FOO / HTTP/1.1",
    b"FOO / HTTP/1.1\r",
    b"FOO / HTTP/1.1 and more",
    b"EHLO client.example",
    b" ",
    b"\t",
    b"\r\n ",
    b"G(T / HTTP/1.1",
    b" GET / HTTP/1.1\r",
    b"HTTP/1.1 200 OK",
    // What clients send that wait for an answer before they end a line.
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client'>",
    b"{\"jsonrpc\":\"2.0\",\"method\":\"a\"}",
];

/// What a new sniffer says of `input`, handed over in pieces that end at `cuts` and at the end,
/// and how much had to be there.
fn sniff_cut(input: &[u8], cuts: &[usize]) -> Option<(Protocol, usize)> {
    let mut sniffer = Sniffer::default();
    let ends = cuts.iter().copied().chain([input.len()]);
    let decisions: Vec<_> =
        ends.map(|end| sniffer.sniff(&input[..end]).map(|protocol| (protocol, end))).collect();
    let first = decisions.iter().flatten().next().copied();
    // A decision stays.
    let decided = decisions.iter().skip_while(|decision| decision.is_none());
    for decision in decided {
        assert_eq!(decision.map(|d| d.0), first.map(|d| d.0), "{input:02x?}");
    }
    first
}

#[test]
fn every_case_is_decided_by_its_byte_at_every_cut() {
    assert!(DECIDED.len() >= 116);
    for Case { read, rest, protocol } in DECIDED {
        let input = [*read, *rest].concat();
        let text = input.escape_ascii();
        let bytewise: Vec<usize> = (0..input.len()).collect();
        assert_eq!(sniff_cut(&input, &bytewise), Some((*protocol, read.len())), "{text}");
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let expected = [first, second, input.len()]
                    .into_iter()
                    .find(|&end| end >= read.len())
                    .map(|end| (*protocol, end));
                assert_eq!(sniff_cut(&input, &[first, second]), expected, "{text}");
            }
        }
    }
}

#[test]
fn bytes_after_the_deciding_one_change_nothing() {
    for Case { read, protocol, .. } in DECIDED {
        for byte in 0..=u8::MAX {
            let input = [*read, &[byte, byte]].concat();
            assert_eq!(sniff_cut(&input, &[]), Some((*protocol, input.len())));
        }
    }
}

#[test]
fn prefixes_of_something_known_are_undecided() {
    for input in UNDECIDED {
        let bytewise: Vec<usize> = (0..input.len()).collect();
        assert_eq!(sniff_cut(input, &bytewise), None, "{}", input.escape_ascii());
        assert_eq!(sniff_cut(input, &[]), None, "{}", input.escape_ascii());
    }
}

/// The rules once more, for a whole buffer and without state. The protocol is known with the first
/// prefix for which this is not `None`.
fn reference(buf: &[u8]) -> Option<Protocol> {
    if buf == PREFACE {
        return Some(Http2);
    }
    if PREFACE.starts_with(buf) {
        return None;
    }
    if buf[0] == 22 {
        let ok = [
            buf.get(1).is_none_or(|&major| major == 3),
            buf.get(2).is_none_or(|&minor| minor < 5),
            buf.get(3).is_none_or(|&high| high <= 0x41),
            buf.get(3..5).is_none_or(|length| {
                let length = u32::from(length[0]) * 256 + u32::from(length[1]);
                length > 0 && length <= 16_384 + 256
            }),
            buf.get(5).is_none_or(|&message| message == 1),
        ];
        return match ok {
            [true, true, true, true, true] if buf.len() < 6 => None,
            [true, true, true, true, true] => Some(Tls),
            _ => Some(Opaque),
        };
    }
    let mut rest = buf;
    let mut empty_lines = 0;
    while let Some(after) = rest.strip_prefix(b"\r\n")
        && empty_lines < Limits::LEADING_EMPTY_LINES
    {
        rest = after;
        empty_lines += 1;
    }
    if rest.is_empty() || rest == b"\r" && empty_lines < Limits::LEADING_EMPTY_LINES {
        return None;
    }
    let end = rest.iter().position(|&byte| byte.is_ascii_control() && byte != b'\t');
    let (line, end) = rest.split_at(end.unwrap_or(rest.len()));
    let method = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    if !method.is_ascii() {
        return Some(Opaque);
    }
    if method.len() < line.len() && REGISTERED.iter().any(|name| name.as_bytes() == method) {
        return Some(Http1);
    }
    let says_http = line.len() >= 9
        && line[line.len() - 9..].starts_with(b" HTTP/")
        && line[line.len() - 3].is_ascii_digit()
        && line[line.len() - 2] == b'.'
        && line[line.len() - 1].is_ascii_digit();
    match end {
        _ if line.len() > Sniffer::LINE_BYTES => Some(Opaque),
        [] => None,
        b"\r" if says_http => None,
        [b'\r', b'\n', ..] | [b'\n', ..] if says_http => Some(Http1),
        _ => Some(Opaque),
    }
}

#[test]
fn every_sequence_of_pieces_agrees_with_the_reference() {
    const PIECES: &[&[u8]] = &[
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b"(",
        b"GET",
        b"PRI",
        b"* HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"HTTP/1.1",
        b"\x16\x03",
        b"\x01",
        b"\x80",
    ];
    const LENGTH: u32 = 5;
    let mut input = Vec::new();
    let mut seen = [0_usize; 5];
    for number in 0..PIECES.len().pow(LENGTH) {
        input.clear();
        let mut digits = number;
        for _ in 0..LENGTH {
            input.extend_from_slice(PIECES[digits % PIECES.len()]);
            digits /= PIECES.len();
        }
        let expected = (0..=input.len()).find_map(|n| reference(&input[..n]).map(|p| (p, n)));
        let mut sniffer = Sniffer::default();
        let decided = (0..=input.len()).find_map(|n| sniffer.sniff(&input[..n]).map(|p| (p, n)));
        assert_eq!(decided, expected, "{}", input.escape_ascii());
        assert_eq!(Sniffer::default().sniff(&input), expected.map(|(protocol, _)| protocol));
        seen[expected.map_or(4, |(protocol, _)| protocol as usize)] += 1;
    }
    assert!(seen.iter().all(|&n| n > 0), "{seen:?}");
}

#[test]
fn every_byte_in_every_place_agrees_with_the_reference() {
    let places: &[(&[u8], &[u8])] = &[
        (b"", b" / HTTP/1.1\r\n"),
        (b"A", b" / HTTP/1.1\r\n"),
        (b"A", b"B / HTTP/1.1\r\n"),
        (b"A", b"HTTP/1.1\r\n"),
        (b" ", b" / HTTP/1.1\r\n"),
        (b"\t", b" / HTTP/1.1\r\n"),
        (b"{\"", b"\":1} HTTP/1.1\r\n"),
        (b"GET", b"/ HTTP/1.1\r\n"),
        (b" GET", b"/ HTTP/1.1\r\n"),
        (b"\r\n ", b" HTTP/1.1\r\n"),
        (b"\r\n", b"A / HTTP/1.1\r\n"),
        (b"A ", b" HTTP/1.1\r\n"),
        (b"A /", b"HTTP/1.1\r\n"),
        (b"A / HTTP/", b".1\r\n"),
        (b"A / HTTP/1", b"1\r\n"),
        (b"A / HTTP/1.", b"\r\n"),
        (b"A / HTTP/1.1", b"\r\n"),
        (b"A / HTTP/1.1\r", b"\n"),
        (b"PRI", b"* HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (b"PRI ", b" HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", b""),
        (b"\x16", b"\x01\x02\x00\x01"),
        (b"\x16\x03", b"\x02\x00\x01"),
        (b"\x16\x03\x01", b"\x00\x01"),
        (b"\x16\x03\x01\x00", b"\x01"),
        (b"\x16\x03\x01\x41", b"\x01"),
        (b"\x16\x03\x01\x00\x05", b""),
    ];
    for (before, after) in places {
        for byte in 0..=u8::MAX {
            let input = [*before, &[byte], *after].concat();
            let expected = (0..=input.len()).find_map(|n| reference(&input[..n]).map(|p| (p, n)));
            let bytewise: Vec<usize> = (0..input.len()).collect();
            assert_eq!(sniff_cut(&input, &bytewise), expected, "{}", input.escape_ascii());
        }
    }
}

#[test]
fn every_text_that_ends_in_a_version_is_http1() {
    let is_text = |byte: u8| byte == b'\t' || byte == b' ' || byte.is_ascii_graphic();
    for first in (0..=u8::MAX).filter(|&byte| is_text(byte)) {
        for second in (0..=u8::MAX).filter(|&byte| is_text(byte)) {
            for end in ["\r\n", "\n"] {
                let input = [&[first, second], &b" HTTP/1.1"[..], end.as_bytes()].concat();
                assert_eq!(
                    sniff_cut(&input, &[input.len() - 1]),
                    Some((Http1, input.len())),
                    "{}",
                    input.escape_ascii()
                );
            }
        }
        // Beyond ASCII there is only what follows a SP.
        for high in 0x80..=u8::MAX {
            let input = [first, high];
            let expected = if first == b' ' { None } else { Some(Opaque) };
            assert_eq!(Sniffer::default().sniff(&input), expected);
            let line = [&[first, b' ', high], &b" HTTP/1.1\r\n"[..]].concat();
            assert_eq!(Sniffer::default().sniff(&line), Some(Http1));
        }
    }
}

#[test]
fn endless_lines_are_opaque_at_the_limit() {
    let long = |start: &[u8], byte: u8| {
        let mut input = start.to_vec();
        input.resize(start.len() + Sniffer::MAX_BYTES + 10, byte);
        input
    };
    for (start, byte) in [
        (&b""[..], b'A'),
        (b"FOO ", b'x'),
        (b"FOO ", b'\xff'),
        (b"FOO", b' '),
        (b"", b' '),
        (b"", b'\t'),
        (b"{", b'"'),
    ] {
        let input = long(start, byte);
        let mut sniffer = Sniffer::default();
        assert_eq!(sniffer.sniff(&input[..Sniffer::LINE_BYTES]), None);
        assert_eq!(sniffer.sniff(&input[..=Sniffer::LINE_BYTES]), Some(Opaque));
        assert_eq!(reference(&input[..=Sniffer::LINE_BYTES]), Some(Opaque));
    }
    // The first SP one byte too late.
    let mut input = long(b"", b'A');
    input[Sniffer::LINE_BYTES] = b' ';
    assert_eq!(Sniffer::default().sniff(&input[..=Sniffer::LINE_BYTES]), Some(Opaque));
    // The longest that can be: all empty lines, the longest line, its CRLF.
    let mut input = b"\r\n".repeat(Limits::LEADING_EMPTY_LINES);
    input.extend_from_slice(b"FOO /");
    input.resize(2 * Limits::LEADING_EMPTY_LINES + Sniffer::LINE_BYTES - 9, b'a');
    input.extend_from_slice(b" HTTP/1.1\r\n");
    assert_eq!(input.len(), Sniffer::MAX_BYTES);
    let mut sniffer = Sniffer::default();
    assert_eq!(sniffer.sniff(&input[..input.len() - 1]), None);
    assert_eq!(sniffer.sniff(&input), Some(Http1));
}

#[test]
fn bytes_are_read_once() {
    let mut sniffer = Sniffer::default();
    assert_eq!(sniffer.sniff(b"FOO /some/path"), None);
    // Against the contract, but it shows: the beginning is not looked at again.
    assert_eq!(sniffer.sniff(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0 HTTP/1.1\r\n"), Some(Http1));
    // And a shorter buffer than before harms nothing.
    let mut sniffer = Sniffer::default();
    assert_eq!(sniffer.sniff(b"\r\n\r\nFOO /some/path"), None);
    assert_eq!(sniffer.sniff(b""), None);
    assert!(size_of::<Sniffer>() <= 8);
}

/// The registry, in its own order, without `*`.
const REGISTERED: &[&str] = &[
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

#[test]
fn exactly_the_registered_methods_decide_at_their_space() {
    for name in REGISTERED {
        let name = name.as_bytes();
        assert!(is_registered(name));
        let expected = if name == b"PRI" { None } else { Some(Http1) };
        let mut sniffer = Sniffer::default();
        assert_eq!(sniffer.sniff(name), None);
        assert_eq!(sniffer.sniff(&[name, b" "].concat()), expected);
        // Another case, a byte less, a byte more: other methods.
        let longer = [name, b"S"].concat();
        for other in [&name.to_ascii_lowercase(), &name[..name.len() - 1], &longer] {
            assert!(!is_registered(other), "{}", other.escape_ascii());
            assert_eq!(Sniffer::default().sniff(&[other, &b" "[..]].concat()), None);
        }
    }
    for other in [&b""[..], b"*", b"BREW", b"GETS", b"PURGE", b"INVITE"] {
        assert!(!is_registered(other));
    }
}
