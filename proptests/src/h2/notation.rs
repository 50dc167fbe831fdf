//! How the table writes what a peer sends and what we do meanwhile, one step a line.
//!
//! ```text
//! HEADERS(1, END_STREAM|END_HEADERS, GET, "x-a: b")   # a block of literals; GET is four of them
//! HEADERS(1, END_HEADERS, x"82 86 84")                # a block in hexadecimal
//! DATA(1, PADDED, pad=3, "{"ab"*100}")
//! 20 * PING("12345678")
//! FRAME(0xbb, 0x0, 1, "payload")                      # any type, any flags
//! RAW(x"00 00")
//! we respond 1 200 end | server: x
//! ```
//!
//! Strings are as in the table of HTTP/1 messages: `\r \n \t \0 \\ \xNN` and `{"…"*N}`.

use super::wire::{self, CODES, Frame, KINDS, PREFACE, SETTINGS};
use crate::table::bytes::unescape;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The peer sends these bytes.
    Bytes(Vec<u8>),
    /// We do something.
    We(Action),
}

/// What we can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `we ask GET [end]`, `| name: value` for each field: a client's request.
    Ask(Vec<u8>, bool),
    /// `we respond 1 200 [end]`, `| name: value` for each field.
    Respond(u32, Vec<u8>, bool),
    /// `we send 1 100 [end]`: body bytes.
    Send(u32, usize, bool),
    /// `we trail 1 | name: value`.
    Trail(u32, Vec<u8>),
    /// `we reset 1 CANCEL`.
    Reset(u32, u32),
    /// `we release 1 100`: body bytes have gone on.
    Release(u32, usize),
    /// `we wait 1000`: milliseconds pass.
    Wait(u64),
    /// `we shut_down`.
    ShutDown,
    /// `we keep_alive`.
    KeepAlive,
}

/// Reads a script. A `#` that follows a space or begins a line begins a comment.
pub fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let step = step(line).map_err(|error| format!("`{line}`: {error}"))?;
        match (steps.last_mut(), step) {
            (Some(Step::Bytes(bytes)), Step::Bytes(more)) => bytes.extend(more),
            (_, step) => steps.push(step),
        }
    }
    Ok(steps)
}

fn step(line: &str) -> Result<Step, String> {
    if let Some(action) = line.strip_prefix("we ") {
        return Ok(Step::We(self::action(action)?));
    }
    let (count, frame) = match line.split_once(" * ") {
        Some((count, frame)) if count.bytes().all(|byte| byte.is_ascii_digit()) => {
            (count.parse().map_err(|_| "count")?, frame)
        }
        _ => (1, line),
    };
    Ok(Step::Bytes(frames(frame)?.repeat(count)))
}

fn action(text: &str) -> Result<Action, String> {
    let mut parts = text.split(" | ");
    let mut words = parts.next().unwrap_or_default().split(' ');
    let fields: Vec<&str> = parts.collect();
    let lines = |first: String| {
        let mut head = unescape(&first)?;
        for field in &fields {
            head.extend(unescape(field)?);
            head.extend(b"\r\n");
        }
        head.extend(b"\r\n");
        Ok::<_, String>(head)
    };
    let verb = words.next().unwrap_or_default();
    let mut word = || words.next().ok_or("too few words");
    let mut number = || word()?.parse::<u32>().map_err(|_| "not a number");
    Ok(match verb {
        "ask" => {
            let method = word()?;
            let (target, host) = match method {
                "CONNECT" => ("a.example:443", "a.example:443"),
                _ => ("/", "a.example"),
            };
            let head = lines(format!("{method} {target} HTTP/1.1\\r\\nHost: {host}\\r\\n"))?;
            Action::Ask(head, word() == Ok("end"))
        }
        "respond" => {
            let (id, status) = (number()?, number()?);
            let head = lines(format!("HTTP/1.1 {status} Some Reason\\r\\n"))?;
            Action::Respond(id, head, word() == Ok("end"))
        }
        "send" => Action::Send(number()?, number()? as usize, word() == Ok("end")),
        "trail" => Action::Trail(number()?, lines(String::new())?),
        "reset" => Action::Reset(number()?, self::number(word()?)?),
        "release" => Action::Release(number()?, number()? as usize),
        "wait" => Action::Wait(number()?.into()),
        "shut_down" => Action::ShutDown,
        "keep_alive" => Action::KeepAlive,
        verb => return Err(format!("`{verb}`: unknown")),
    })
}

/// An argument of a frame.
#[derive(Debug)]
enum Argument {
    /// `"…"`.
    Text(Vec<u8>),
    /// `x"…"`.
    Hex(Vec<u8>),
    /// Anything else.
    Word(String),
}

fn frames(text: &str) -> Result<Vec<u8>, String> {
    let (name, rest) = text.split_once('(').unwrap_or((text, ")"));
    let rest = rest.strip_suffix(')').ok_or("no `)`")?;
    let mut arguments = arguments(rest)?;
    match name {
        "PREFACE" => return Ok(PREFACE.to_vec()),
        "RAW" => return payload(arguments),
        "FRAME" => {
            let mut number = || match arguments.remove(0) {
                Argument::Word(word) => number(&word),
                other => Err(format!("{other:?}: not a number")),
            };
            let (kind, flags, stream) = (number()?, number()?, number()?);
            return Ok(Frame::new(kind as u8, flags as u8, stream, payload(arguments)?).bytes());
        }
        _ => {}
    }
    let (name, ack) = name.strip_suffix("_ACK").map_or((name, 0), |name| (name, wire::ACK));
    let found = KINDS.iter().find(|(_, kind)| *kind == name);
    let &(kind, _) = found.ok_or_else(|| format!("`{name}`: no frame"))?;
    let mut frame = Frame::new(kind, ack, 0, []);
    if !matches!(name, "SETTINGS" | "PING") {
        match (!arguments.is_empty()).then(|| arguments.remove(0)) {
            Some(Argument::Word(word)) => frame.stream = number(&word)?,
            _ => return Err("no stream".to_owned()),
        }
    }
    fill(&mut frame, name, arguments)?;
    Ok(frame.bytes())
}

/// Flags and payload, in the order of the arguments.
fn fill(frame: &mut Frame, name: &str, arguments: Vec<Argument>) -> Result<(), String> {
    if name == "GOAWAY" {
        // The number was the last stream; the frame itself is on stream 0.
        frame.payload.extend(std::mem::take(&mut frame.stream).to_be_bytes());
    }
    let mut padding = None;
    let mut body = Vec::new();
    for argument in arguments {
        match argument {
            Argument::Hex(bytes) => body.extend(bytes),
            Argument::Text(text) if matches!(kind_of(name), Fields) => field(&mut body, &text)?,
            Argument::Text(text) => body.extend(text),
            Argument::Word(word) => match (word.split_once('='), kind_of(name)) {
                (Some(("pad", n)), _) => padding = Some(number(n)? as usize),
                (Some(("on", n)), _) => frame.stream = number(n)?,
                (Some(("dep", n)), _) => body.extend(number(n)?.to_be_bytes()),
                (Some(("weight", n)), _) => body.push(number(n)? as u8),
                (Some((setting, value)), Settings) => {
                    let id = SETTINGS.iter().find(|(_, name)| *name == setting);
                    let id = id.map_or_else(|| number(setting), |&(id, _)| Ok(id.into()))?;
                    body.extend((id as u16).to_be_bytes());
                    body.extend(number(value)?.to_be_bytes());
                }
                (None, Fields) if shorthand(&word).is_some() => {
                    for (name, value) in shorthand(&word).into_iter().flatten() {
                        wire::literal(&mut body, name.as_bytes(), value.as_bytes());
                    }
                }
                (None, _) if flags(&word).is_some() => frame.flags |= flags(&word).unwrap_or(0),
                _ => body.extend(number(&word)?.to_be_bytes()),
            },
        }
    }
    if let Some(padding) = padding {
        frame.payload.push(padding as u8);
        body.extend(std::iter::repeat_n(0, padding));
    }
    frame.payload.extend(body);
    Ok(())
}

/// What the arguments of a frame are.
enum Kind {
    Fields,
    Settings,
    Other,
}
use Kind::{Fields, Other, Settings};

fn kind_of(name: &str) -> Kind {
    match name {
        "HEADERS" | "CONTINUATION" | "PUSH_PROMISE" => Fields,
        "SETTINGS" => Settings,
        _ => Other,
    }
}

/// Fields that nearly every block begins with.
fn shorthand(word: &str) -> Option<Vec<(&str, &str)>> {
    match word {
        "GET" | "POST" | "HEAD" | "OPTIONS" => Some(vec![
            (":method", word),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "a.example"),
        ]),
        "OK" => Some(vec![(":status", "200")]),
        _ => None,
    }
}

fn flags(word: &str) -> Option<u8> {
    word.split('|').try_fold(0, |flags, name| {
        Some(
            flags
                | match name {
                    "END_STREAM" => wire::END_STREAM,
                    "ACK" => wire::ACK,
                    "END_HEADERS" => wire::END_HEADERS,
                    "PADDED" => wire::PADDED,
                    "PRIORITY" => wire::PRIORITY,
                    _ => return None,
                },
        )
    })
}

/// `name: value` as a literal.
fn field(out: &mut Vec<u8>, text: &[u8]) -> Result<(), String> {
    let colon = (0..text.len().saturating_sub(1)).find(|&at| &text[at..at + 2] == b": ");
    let colon = colon.ok_or_else(|| format!("`{}`: no `: `", text.escape_ascii()))?;
    wire::literal(out, &text[..colon], &text[colon + 2..]);
    Ok(())
}

fn payload(arguments: Vec<Argument>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for argument in arguments {
        match argument {
            Argument::Text(bytes) | Argument::Hex(bytes) => out.extend(bytes),
            Argument::Word(word) => out.extend(number(&word)?.to_be_bytes()),
        }
    }
    Ok(out)
}

/// Decimal, `0x…`, or the name of an error code.
fn number(word: &str) -> Result<u32, String> {
    if let Some(code) = CODES.iter().position(|code| *code == word) {
        return Ok(code as u32);
    }
    let number = match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => word.parse(),
    };
    number.map_err(|_| format!("`{word}`: not a number"))
}

/// Splits at commas that are not in strings.
fn arguments(text: &str) -> Result<Vec<Argument>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (argument, after) = if let Some(hex) = rest.strip_prefix("x\"") {
            let (digits, after) = hex.split_once('"').ok_or("no end of a string")?;
            (Argument::Hex(hexadecimal(digits)?), after)
        } else if let Some(string) = rest.strip_prefix('"') {
            let end = end_of_string(string).ok_or("no end of a string")?;
            (Argument::Text(unescape(&string[..end])?), &string[end + 1..])
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            (Argument::Word(rest[..end].trim().to_owned()), &rest[end..])
        };
        out.push(argument);
        rest = after.trim_start();
        rest = match rest.strip_prefix(',') {
            Some(rest) => rest.trim_start(),
            None if rest.is_empty() => rest,
            None => return Err(format!("`{rest}` after an argument")),
        };
    }
    Ok(out)
}

/// Where the quote is that is not part of a repetition.
fn end_of_string(string: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let quote = at + string[at..].find('"')?;
        if !string[..quote].ends_with('{') {
            return Some(quote);
        }
        at = quote + string[quote..].find('}')? + 1;
    }
}

/// Pairs of digits; `61*100` is a hundred of them.
fn hexadecimal(digits: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for word in digits.split_whitespace() {
        let (digits, count) = word.split_once('*').unwrap_or((word, "1"));
        let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(byte).collect();
        let bytes = bytes.ok_or_else(|| format!("`{word}`: not hexadecimal"))?;
        let count: usize = count.parse().map_err(|_| format!("`{word}`: no count"))?;
        out.extend(bytes.repeat(count));
    }
    Ok(out)
}
