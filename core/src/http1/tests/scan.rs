use super::super::scan::find_below;
use super::*;

type Scanned = Result<Option<usize>, Reason>;

fn scan(bytes: &[u8], kind: HeadKind, limits: &Limits) -> Scanned {
    HeadScanner::default().scan(bytes, kind, limits)
}

/// Another scanner, written for clarity: byte by byte, keeping each line.
fn model(bytes: &[u8], kind: HeadKind, limits: &Limits) -> Scanned {
    let result = model_bytes(bytes, kind, limits);
    if kind == HeadKind::Response { result.map_err(|_| Reason::BadResponse) } else { result }
}

fn model_bytes(bytes: &[u8], kind: HeadKind, limits: &Limits) -> Scanned {
    let (mut line, mut lines, mut empty) = (Vec::new(), 0, 0);
    let mut first = kind != HeadKind::Trailers;
    for (index, &byte) in bytes.iter().enumerate() {
        let spaces = line.split(|&byte| byte == b' ').count() - 1;
        let beginning = line.is_empty();
        if line.last() == Some(&b'\r') {
            if byte != b'\n' {
                return Err(Reason::BareCr);
            }
            line.pop();
            if first && line.is_empty() && kind == HeadKind::Request {
                empty += 1;
                if empty > Limits::LEADING_EMPTY_LINES {
                    return Err(Reason::RequestLine);
                }
            } else if first {
                model_first_line(&line, kind)?;
                first = false;
            } else if line.is_empty() {
                return Ok(Some(index + 1));
            }
            line.clear();
        } else {
            match byte {
                b'\n' => return Err(Reason::BareLf),
                b' ' | b'\t' if !first && beginning => return Err(Reason::ObsoleteFold),
                b'\t' if kind == HeadKind::Request && first => {
                    return Err(Reason::ControlCharacter);
                }
                b' ' if kind == HeadKind::Request && first && spaces == 2 => {
                    return Err(Reason::RequestLine);
                }
                _ => {}
            }
            if !first && beginning && byte != b'\r' {
                lines += 1;
                if lines > limits.header_count {
                    return Err(Reason::TooManyFields);
                }
            }
            match byte {
                0 => return Err(Reason::Nul),
                b'\t' | b'\r' | 0x20.. => line.push(byte),
                _ => return Err(Reason::ControlCharacter),
            }
        }
        if first {
            model_unfinished(&line, index + 1, kind, limits)?;
        }
        if index + 1 >= limits.header_bytes {
            return Err(Reason::HeadTooLarge);
        }
    }
    Ok(None)
}

fn model_first_line(line: &[u8], kind: HeadKind) -> Result<(), Reason> {
    if kind == HeadKind::Response {
        return if line.starts_with(b"HTTP/1.") { Ok(()) } else { Err(Reason::BadResponse) };
    }
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match parts[..] {
        [_, _, b"HTTP/1.0" | b"HTTP/1.1"] => Ok(()),
        [_, _, version]
            if version.len() == 8
                && version.starts_with(b"HTTP/")
                && version[6] == b'.'
                && version[5].is_ascii_digit()
                && version[7].is_ascii_digit() =>
        {
            Err(Reason::Version)
        }
        _ => Err(Reason::RequestLine),
    }
}

/// A first line so far, `total` bytes into the head.
fn model_unfinished(
    line: &[u8],
    total: usize,
    kind: HeadKind,
    limits: &Limits,
) -> Result<(), Reason> {
    if kind == HeadKind::Response {
        let n = line.len().min(7);
        return if line[..n] == b"HTTP/1."[..n] { Ok(()) } else { Err(Reason::BadResponse) };
    }
    if line.last() == Some(&b'\r') || total >= limits.header_bytes {
        return Ok(());
    }
    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    match parts[..] {
        [_, target] if target.len() > limits.target_bytes => Err(Reason::TargetTooLong),
        [_, _, version] if version.len() > 8 => Err(Reason::RequestLine),
        _ => Ok(()),
    }
}

/// Tries everything that can follow `bytes`: `depth` more bytes out of `alphabet`.
fn explore(
    bytes: &mut Vec<u8>,
    scanner: &HeadScanner,
    alphabet: &[u8],
    depth: usize,
    kind: HeadKind,
    limits: &Limits,
) -> usize {
    let mut tried = 0;
    for &byte in alphabet {
        bytes.push(byte);
        let mut resumed = scanner.clone();
        let got = resumed.scan(bytes, kind, limits);
        let expected = model(bytes, kind, limits);
        assert_eq!(got, expected, "resumed: {}", show(bytes));
        assert_eq!(scan(bytes, kind, limits), expected, "whole: {}", show(bytes));
        tried += 1;
        if depth > 1 && got == Ok(None) {
            tried += explore(bytes, &resumed, alphabet, depth - 1, kind, limits);
        }
        bytes.pop();
    }
    tried
}

fn explore_from(
    seed: &[u8],
    alphabet: &[u8],
    depth: usize,
    kind: HeadKind,
    limits: &Limits,
) -> usize {
    let mut scanner = HeadScanner::default();
    assert_eq!(scanner.scan(seed, kind, limits), Ok(None), "{}", show(seed));
    explore(&mut Vec::from(seed), &scanner, alphabet, depth, kind, limits)
}

#[test]
fn every_short_head_is_judged_like_the_model_however_it_is_cut() {
    let wide = Limits::default();
    let tight = Limits { header_bytes: 28, header_count: 2, target_bytes: 3, ..Limits::default() };
    let requests: [(&[u8], &[u8], usize); 6] = [
        (b"", b"G \r\n\0\x01\t", 7),
        (b"GET", b" /\r\nH", 7),
        (b"GET / HTTP/1", b".12\r\n ", 6),
        (b"GET / HTTP/1.1\r\n", b"a:\r\n \t\0", 6),
        (b"GET / HTTP/1.1\r\na", b"a\r\n\x7f", 8),
        (b"\r\n\r\n\r\n", b"G\r\n ", 8),
    ];
    let mut tried = 0;
    for limits in [&wide, &tight] {
        for (seed, alphabet, depth) in requests {
            tried += explore_from(seed, alphabet, depth, HeadKind::Request, limits);
        }
        tried += explore_from(b"", b"HT\r\n\t", 6, HeadKind::Response, limits);
        tried += explore_from(b"HTTP/1.1 ", b"2 \r\n\t\0", 6, HeadKind::Response, limits);
        tried += explore_from(b"HTTP/1.1 200\r\n", b"a:\r\n \t", 6, HeadKind::Response, limits);
        tried += explore_from(b"", b"a:\r\n \0", 7, HeadKind::Trailers, limits);
    }
    assert!(tried > 60_000, "{tried}");
}

#[test]
fn random_heads_are_judged_like_the_model_however_they_are_cut() {
    let pieces: [&[u8]; 20] = [
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b"\0",
        b"a",
        b"Host: example\r\n",
        b"X-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        b"X-Wide: \xff\xfe\x80 \t x\r\n",
        b"X:",
        b"0123456789abcdef",
        b"0123456",
        b"HTTP/1.0\r\n",
        b" /path ",
        b"\x7f",
        b"\x1f",
        b": ",
    ];
    let mut dice = Dice(1);
    for round in 0..20_000 {
        let limits = Limits {
            header_bytes: 16 + dice.roll(300),
            header_count: 1 + dice.roll(5),
            target_bytes: 1 + dice.roll(40),
            ..Limits::default()
        };
        let kind = [HeadKind::Request, HeadKind::Response, HeadKind::Trailers][round % 3];
        let mut bytes = Vec::new();
        if dice.roll(4) > 0 {
            bytes.extend_from_slice(pieces[round % 3 % 2]);
        }
        for _ in 0..dice.roll(9) {
            bytes.extend_from_slice(pieces[dice.roll(pieces.len())]);
        }
        let mut scanner = HeadScanner::default();
        let mut end = 0;
        while end < bytes.len() {
            let most = if dice.roll(2) == 0 { 2 } else { 40 };
            end = (end + 1 + dice.roll(most)).min(bytes.len());
            let expected = model(&bytes[..end], kind, &limits);
            assert_eq!(scanner.scan(&bytes[..end], kind, &limits), expected, "{}", show(&bytes));
            if expected != Ok(None) {
                break;
            }
        }
    }
}

#[test]
fn blocks_are_searched_like_bytes() {
    for len in 0..60 {
        for from in 0..=len {
            for at in from..=len {
                for (byte, after) in [(0x1f, 0), (0x1f, 0xff), (0, 0x1f), (0x20, 0x80)] {
                    let mut bytes = std::vec![0x80; len];
                    if at < len {
                        bytes[at] = byte;
                        bytes[at + 1..].fill(after);
                    }
                    let naive = |limit: u8| {
                        let found = bytes[from..].iter().position(|&byte| byte < limit);
                        found.map_or(len, |found| from + found)
                    };
                    assert_eq!(find_below::<0x20>(&bytes, from), naive(0x20));
                    assert_eq!(find_below::<0x21>(&bytes, from), naive(0x21));
                }
            }
        }
    }
}

#[test]
fn each_limit_is_exact() {
    let limits =
        Limits { header_bytes: 200, header_count: 3, target_bytes: 20, ..Limits::default() };
    let request = |target: usize, fields: usize, padding: usize| {
        let mut head = Vec::from(&b"GET /"[..]);
        head.resize(head.len() + target - 1, b'x');
        head.extend_from_slice(b" HTTP/1.1\r\n");
        for _ in 0..fields {
            head.extend_from_slice(b"a: b\r\n");
        }
        if padding > head.len() + 2 {
            head.truncate(head.len() - 2);
            head.resize(padding - 4, b'x');
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    };
    for (head, expected) in [
        (request(20, 3, 0), None),
        (request(21, 3, 0), Some(Reason::TargetTooLong)),
        (request(20, 4, 0), Some(Reason::TooManyFields)),
        (request(20, 3, 200), None),
        (request(20, 3, 201), Some(Reason::HeadTooLarge)),
        (request(180, 1, 201), Some(Reason::TargetTooLong)),
    ] {
        let expected = expected.map_or(Ok(Some(head.len())), Err);
        assert_eq!(scan(&head, HeadKind::Request, &limits), expected, "{}", show(&head));
        assert_eq!(model(&head, HeadKind::Request, &limits), expected, "{}", show(&head));
        let each: Vec<usize> = (1..head.len()).collect();
        let received = receive(&head, &each, &limits);
        assert_eq!(received, receive(&head, &[], &limits));
        assert_eq!(received.err(), expected.err().or(Some(Reason::HostMissing)), "{}", show(&head));
    }
    // Whole heads, good but for their size.
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (header_bytes, reason) in [(head.len(), None), (head.len() - 1, Some(Reason::HeadTooLarge))]
    {
        let limits = Limits { header_bytes, ..Limits::default() };
        assert_eq!(receive(head, &[], &limits).err(), reason);
        assert_eq!(receive(head, &[7], &limits).err(), reason);
    }
    // A limit beyond what the parser has room for does not open the door to a panic.
    let limits = Limits { header_count: 10_000, ..Limits::default() };
    let head = request(1, 257, 0);
    assert_eq!(scan(&head, HeadKind::Request, &limits), Err(Reason::TooManyFields));
    assert_eq!(receive(&head, &[], &limits), Err(Reason::TooManyFields));
    let mut scratch = Scratch::default();
    let parsed = parse_request(&head, &mut scratch, &limits);
    assert_eq!(parsed.err(), Some(Reason::TooManyFields));
}

#[test]
fn an_endless_beginning_is_refused_at_the_limit_not_later() {
    let limits =
        Limits { header_bytes: 100, header_count: 9, target_bytes: 30, ..Limits::default() };
    for (seed, length, reason) in [
        (&b""[..], 100, Reason::HeadTooLarge),
        (b"GET ", 4 + 31, Reason::TargetTooLong),
        (b"GET / ", 6 + 9, Reason::RequestLine),
        (b"GET / HTTP/1.1\r\nx: ", 100, Reason::HeadTooLarge),
    ] {
        let mut bytes = Vec::from(seed);
        let mut scanner = HeadScanner::default();
        let refused = loop {
            bytes.push(b'a');
            match scanner.scan(&bytes, HeadKind::Request, &limits) {
                Ok(None) => {}
                other => break other,
            }
        };
        assert_eq!((refused, bytes.len()), (Err(reason), length), "{}", show(seed));
    }
}

#[test]
fn a_head_has_started_with_its_first_byte_that_is_no_empty_line() {
    let limits = Limits::default();
    for (bytes, started) in
        [(&b""[..], false), (b"\r", false), (b"\r\n\r\n", false), (b"\r\nG", true), (b"G", true)]
    {
        let mut scanner = HeadScanner::default();
        assert_eq!(scanner.scan(bytes, HeadKind::Request, &limits), Ok(None));
        assert_eq!(scanner.started(), started, "{}", show(bytes));
    }
}

#[test]
fn what_follows_a_head_is_not_looked_at() {
    let limits = Limits::default();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for rest in [&b""[..], b"\0\n\r\r", b"GET / HTTP/9.9\r\n"] {
        let bytes = [&head[..], rest].concat();
        assert_eq!(scan(&bytes, HeadKind::Request, &limits), Ok(Some(head.len())));
        let received = receive(&bytes, &[], &limits);
        assert_eq!(received.map(|got| got.map(|(len, _)| len)), Ok(Some(head.len())));
    }
}
