//! A reader of HTTP/1 messages that shares nothing with the core's: slow, and stricter than any
//! peer. What the engine writes has to please it.

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line, without CRLF.
    pub line: Vec<u8>,
    /// Names and values, as spelled and in order.
    pub fields: Vec<Field>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Vec<Field>,
    /// Did the message end?
    pub complete: bool,
}

/// A name and a value.
pub type Field = (Vec<u8>, Vec<u8>);

/// How a body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    #[default]
    None,
    /// By Content-Length.
    Length(usize),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// Whose messages they are.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// A client's.
    Client,
    /// A server's, in answer to requests with these methods; 1xx do not count.
    Server(&'a [&'a [u8]]),
}

impl Message {
    /// The value of the first field of this name.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        let same = |field: &&Field| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().find(same).map(|field| &field.1[..])
    }

    /// The method of a request.
    pub fn method(&self) -> &[u8] {
        self.line.split(|&byte| byte == b' ').next().unwrap_or(&[])
    }

    /// The status of a response; 0 for a request.
    pub fn status(&self) -> u16 {
        let code = self.line.get(9..12).and_then(|code| str::from_utf8(code).ok());
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }
}

/// Reads all messages of a stream. The last one may be incomplete; one without a complete head is
/// not among them, and what is left of the stream says so. A response that ends with the connection
/// is complete if `ended`.
///
/// # Errors
/// What is malformed.
pub fn read(
    mut stream: &[u8],
    sender: Sender<'_>,
    ended: bool,
) -> Result<(Vec<Message>, Vec<u8>), String> {
    let mut messages: Vec<Message> = Vec::new();
    while let Some((mut message, rest)) = read_head(stream)? {
        stream = rest;
        message.framing = match sender {
            Sender::Client => request_framing(&message)?,
            Sender::Server(methods) => {
                let answered = messages.iter().filter(|message| message.status() >= 200);
                let method = methods.get(answered.count());
                response_framing(&message, method.ok_or("an answer to nothing")?)?
            }
        };
        stream = read_body(&mut message, stream, ended)?;
        let complete = message.complete;
        messages.push(message);
        if !complete {
            break;
        }
    }
    Ok((messages, stream.to_vec()))
}

/// `None`: there is no complete head.
fn read_head(stream: &[u8]) -> Result<Option<(Message, &[u8])>, String> {
    let Some(end) = find(stream, b"\r\n\r\n") else {
        return Ok(None);
    };
    let mut lines = split_lines(&stream[..end + 2])?;
    if lines.is_empty() {
        return Err("an empty line before the first line".to_owned());
    }
    let line = lines.remove(0).to_vec();
    let fields = lines.into_iter().map(read_field).collect::<Result<_, _>>()?;
    let message = Message { line, fields, ..Message::default() };
    Ok(Some((message, &stream[end + 4..])))
}

/// Lines that end in CRLF, and hold neither CR nor LF.
fn split_lines(text: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n").ok_or("a line without end")?;
        let line = &rest[..end];
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(format!("`{}` has CR, LF or NUL", line.escape_ascii()));
        }
        lines.push(line);
        rest = &rest[end + 2..];
    }
    Ok(lines)
}

/// `name: value`, with exactly one space, or nothing after the colon.
fn read_field(line: &[u8]) -> Result<Field, String> {
    let wrong = || format!("field line `{}`", line.escape_ascii());
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let text = |byte: &u8| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f);
    let good = !name.is_empty() && name.iter().all(token) && value.iter().all(text);
    if !good || value != value.trim_ascii() {
        return Err(wrong());
    }
    Ok((name.to_vec(), value.to_vec()))
}

/// Exactly one field that frames, at most.
fn framing(message: &Message) -> Result<Framing, String> {
    let named = |name: &str| -> Vec<&[u8]> {
        let fields = message.fields.iter();
        let fields = fields.filter(|field| field.0.eq_ignore_ascii_case(name.as_bytes()));
        fields.map(|field| &field.1[..]).collect()
    };
    match (&named("content-length")[..], &named("transfer-encoding")[..]) {
        ([], []) => Ok(Framing::None),
        ([], [b"chunked"]) => Ok(Framing::Chunked),
        ([length], []) => {
            let text = str::from_utf8(length).unwrap_or_default();
            let number: usize = text.parse().map_err(|_| "Content-Length is no number")?;
            if number.to_string() != text {
                return Err(format!("Content-Length {text}"));
            }
            Ok(Framing::Length(number))
        }
        fields => Err(format!("framed by {fields:?}")),
    }
}

fn request_framing(message: &Message) -> Result<Framing, String> {
    let parts: Vec<&[u8]> = message.line.split(|&byte| byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else {
        return Err(format!("request line `{}`", message.line.escape_ascii()));
    };
    if method.is_empty() || target.is_empty() || target.iter().any(|&b| b < 0x21 || b == 0x7f) {
        return Err(format!("request line `{}`", message.line.escape_ascii()));
    }
    let host = |field: &&Field| field.0.eq_ignore_ascii_case(b"host");
    if message.fields.iter().filter(host).count() != 1 {
        return Err("not one Host".to_owned());
    }
    framing(message)
}

fn response_framing(message: &Message, method: &[u8]) -> Result<Framing, String> {
    let digits = message.line.get(9..12).unwrap_or_default();
    let good = message.line.starts_with(b"HTTP/1.1 ")
        && digits.iter().all(u8::is_ascii_digit)
        && message.line.get(12) == Some(&b' ');
    if !good {
        return Err(format!("status line `{}`", message.line.escape_ascii()));
    }
    let framing = framing(message)?;
    match message.status() {
        100..=199 | 204 if framing != Framing::None => Err("a 1xx or 204 with a body".to_owned()),
        100..=199 | 204 | 304 => Ok(Framing::None),
        200..=299 if method == b"CONNECT" => Ok(Framing::None),
        _ if method == b"HEAD" => Ok(Framing::None),
        _ if framing == Framing::None => Ok(Framing::UntilClose),
        _ => Ok(framing),
    }
}

/// Takes the body from the stream, as far as it is there.
fn read_body<'a>(message: &mut Message, stream: &'a [u8], ended: bool) -> Result<&'a [u8], String> {
    match message.framing {
        Framing::None => {
            message.complete = true;
            Ok(stream)
        }
        Framing::Length(length) => {
            let n = length.min(stream.len());
            message.body = stream[..n].to_vec();
            message.complete = n == length;
            Ok(&stream[n..])
        }
        Framing::UntilClose => {
            message.body = stream.to_vec();
            message.complete = ended;
            Ok(&[])
        }
        Framing::Chunked => read_chunks(message, stream),
    }
}

/// No extensions, no leading zeros: we write none.
fn read_chunks<'a>(message: &mut Message, mut stream: &'a [u8]) -> Result<&'a [u8], String> {
    while let Some(end) = find(stream, b"\r\n") {
        let text = str::from_utf8(&stream[..end]).unwrap_or_default();
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("chunk size `{text}`"))?;
        if !text.eq_ignore_ascii_case(&format!("{size:x}")) {
            return Err(format!("chunk size `{text}`"));
        }
        let rest = &stream[end + 2..];
        if size == 0 {
            return read_trailers(message, stream, rest);
        }
        let available = size.min(rest.len());
        message.body.extend_from_slice(&rest[..available]);
        match &rest[available..] {
            [b'\r', b'\n', rest @ ..] => stream = rest,
            [] | [b'\r'] => return Ok(&[]),
            other => return Err(format!("`{}` after chunk data", other.escape_ascii())),
        }
    }
    Ok(stream)
}

fn read_trailers<'a>(
    message: &mut Message,
    stream: &'a [u8],
    section: &'a [u8],
) -> Result<&'a [u8], String> {
    let end = if section.starts_with(b"\r\n") {
        0
    } else if let Some(end) = find(section, b"\r\n\r\n") {
        end + 2
    } else {
        return Ok(stream);
    };
    let lines = split_lines(&section[..end])?;
    message.trailers = lines.into_iter().map(read_field).collect::<Result<_, _>>()?;
    message.complete = true;
    Ok(&section[end + 2..])
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}
