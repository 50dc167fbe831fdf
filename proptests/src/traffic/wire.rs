//! A reader of HTTP/1 messages that shares nothing with the one under test.
//!
//! It is as strict as what the proxy writes: one space after a colon, one way to say how long a
//! body is, chunk sizes without extensions. Anything else is an error.

/// A field: its name as spelled, and its value.
pub type Field = (String, Vec<u8>);

/// The head of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line, without its end.
    pub line: Vec<u8>,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

impl Head {
    /// The value of the only field of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.fields.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        Some(value)
    }

    /// The parts of the first line between its first two spaces, and what follows.
    pub fn parts(&self) -> [&[u8]; 3] {
        let mut parts = self.line.splitn(3, |&byte| byte == b' ');
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        std::str::from_utf8(self.parts()[1]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// How the fields say that the body is delimited.
    ///
    /// # Errors
    /// If they say it twice, or in a way that the proxy never would.
    pub fn framing(&self) -> Result<Framing, String> {
        let all = |name: &str| -> Vec<&[u8]> {
            let fields = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            fields.map(|(_, value)| &value[..]).collect()
        };
        match (&all("content-length")[..], &all("transfer-encoding")[..]) {
            ([], []) => Ok(Framing::UntilClose),
            ([], [coding]) if *coding == b"chunked" => Ok(Framing::Chunked),
            ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
                let length = String::from_utf8_lossy(length).parse();
                length.map(Framing::Length).map_err(|error| error.to_string())
            }
            other => Err(format!("framed by {other:?}")),
        }
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// To the end of the connection; of a request: there is none.
    UntilClose,
}

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A head.
    Head(Head),
    /// Bytes of a body, at least one.
    Data(Vec<u8>),
    /// The end of the message, and its trailers.
    End(Vec<Field>),
}

/// Reads messages as they come.
#[derive(Debug, Default)]
pub struct Reader {
    buf: Vec<u8>,
    /// How much of `buf` is known not to end a head.
    looked: usize,
    at: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
}

impl Reader {
    /// More bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// What has not been read.
    pub fn rest(&self) -> &[u8] {
        &self.buf
    }

    /// Takes what has not been read.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.looked = 0;
        std::mem::take(&mut self.buf)
    }

    /// Between two messages, or in the head of one.
    pub fn is_between(&self) -> bool {
        self.at == State::Head
    }

    /// In a body that ends with the connection.
    pub fn is_until_close(&self) -> bool {
        self.at == State::UntilClose
    }

    /// The next part, if it is there. `framing` says how the body after a head is delimited.
    ///
    /// # Errors
    /// If a message is malformed.
    pub fn next(
        &mut self,
        framing: &mut dyn FnMut(&Head) -> Result<Framing, String>,
    ) -> Result<Option<Part>, String> {
        loop {
            match self.at {
                State::Head => {
                    let Some(lines) = self.lines()? else { return Ok(None) };
                    let head = parse_head(&lines)?;
                    self.at = match framing(&head)? {
                        Framing::Nothing => State::Length(0),
                        Framing::Length(length) => State::Length(length),
                        Framing::Chunked => State::ChunkSize,
                        Framing::UntilClose => State::UntilClose,
                    };
                    return Ok(Some(Part::Head(head)));
                }
                State::Length(0) => {
                    self.at = State::Head;
                    return Ok(Some(Part::End(Vec::new())));
                }
                State::Length(left) => {
                    let data = self.data(left);
                    self.at = State::Length(left - data.len() as u64);
                    return Ok(some_data(data));
                }
                State::UntilClose => return Ok(some_data(self.data(u64::MAX))),
                State::ChunkSize => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let size = chunk_size(&line)?;
                    self.at = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                }
                State::ChunkData(0) => self.at = State::ChunkEnd,
                State::ChunkData(left) => {
                    let data = self.data(left);
                    self.at = State::ChunkData(left - data.len() as u64);
                    return Ok(some_data(data));
                }
                State::ChunkEnd => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    if !line.is_empty() {
                        return Err(format!("chunk data goes on with {}", show(&line)));
                    }
                    self.at = State::ChunkSize;
                }
                State::Trailers => {
                    let Some(fields) = self.trailers()? else { return Ok(None) };
                    self.at = State::Head;
                    return Ok(Some(Part::End(fields)));
                }
            }
        }
    }

    fn data(&mut self, most: u64) -> Vec<u8> {
        let n = usize::try_from(most).map_or(self.buf.len(), |most| most.min(self.buf.len()));
        self.buf.drain(..n).collect()
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(end) = self.buf.windows(2).position(|pair| pair == b"\r\n") else {
            if self.buf.len() > 20 {
                return Err(format!("no line: {}", show(&self.buf)));
            }
            return Ok(None);
        };
        let line: Vec<u8> = self.buf.drain(..end + 2).collect();
        Ok(Some(line[..end].to_vec()))
    }

    /// All lines up to an empty one.
    fn lines(&mut self) -> Result<Option<Vec<Vec<u8>>>, String> {
        let new = &self.buf[self.looked..];
        let Some(end) = new.windows(4).position(|four| four == b"\r\n\r\n") else {
            self.looked = self.buf.len().saturating_sub(3);
            return Ok(None);
        };
        let end = std::mem::take(&mut self.looked) + end;
        let head: Vec<u8> = self.buf.drain(..end + 4).collect();
        let mut lines = Vec::new();
        for line in head[..end].split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.iter().any(|&byte| (byte < b' ' && byte != b'\t') || byte == 0x7f) {
                return Err(format!("control character in {}", show(line)));
            }
            lines.push(line.to_vec());
        }
        // The last line lost its end above; every other one must have had both bytes of it.
        if head.split(|&byte| byte == b'\r').count() != lines.len() + 2 {
            return Err(format!("bare CR or LF in {}", show(&head)));
        }
        Ok(Some(lines))
    }

    fn trailers(&mut self) -> Result<Option<Vec<Field>>, String> {
        if self.buf.starts_with(b"\r\n") {
            self.buf.drain(..2);
            return Ok(Some(Vec::new()));
        }
        let Some(lines) = self.lines()? else { return Ok(None) };
        lines.iter().map(|line| parse_field(line)).collect::<Result<_, _>>().map(Some)
    }
}

fn some_data(data: Vec<u8>) -> Option<Part> {
    if data.is_empty() { None } else { Some(Part::Data(data)) }
}

fn chunk_size(line: &[u8]) -> Result<u64, String> {
    let text = std::str::from_utf8(line).unwrap_or_default();
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = u64::from_str_radix(text, 16).ok().filter(|_| digits);
    size.ok_or_else(|| format!("chunk size {}", show(line)))
}

fn parse_head(lines: &[Vec<u8>]) -> Result<Head, String> {
    let (line, fields) = lines.split_first().ok_or("an empty head")?;
    if line.split(|&byte| byte == b' ').count() < 2 {
        return Err(format!("first line {}", show(line)));
    }
    let fields = fields.iter().map(|line| parse_field(line)).collect::<Result<_, _>>()?;
    Ok(Head { line: line.clone(), fields })
}

/// The head that is all of `bytes`.
pub(crate) fn read_head(bytes: &[u8]) -> Result<Head, String> {
    let mut reader = Reader::default();
    reader.feed(bytes);
    match reader.next(&mut |_| Ok(Framing::Nothing))? {
        Some(Part::Head(head)) if reader.rest().is_empty() => Ok(head),
        other => Err(format!("no head: {other:?}")),
    }
}

/// The fields of a trailer section, up to an empty line.
pub(crate) fn parse_section(section: &[u8]) -> Result<Vec<Field>, String> {
    let lines = section.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.take_while(|line| !line.is_empty()).map(parse_field).collect()
}

fn parse_field(line: &[u8]) -> Result<Field, String> {
    let error = || format!("field line {}", show(line));
    let colon = line.iter().position(|&byte| byte == b':').ok_or_else(error)?;
    let (name, value) = (&line[..colon], line[colon + 1..].strip_prefix(b" ").ok_or_else(error)?);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let edges = [value.first(), value.last()];
    if name.is_empty()
        || !name.iter().all(token)
        || edges.iter().any(|edge| matches!(edge, Some(b' ' | b'\t')))
    {
        return Err(error());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.to_vec()))
}

/// Bytes for a message to people, not more than fit.
pub fn show(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(400)];
    format!("\"{}\"{}", shown.escape_ascii(), if shown.len() < bytes.len() { "…" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], cut: usize) -> Result<Vec<Part>, String> {
        let mut reader = Reader::default();
        let mut parts: Vec<Part> = Vec::new();
        for piece in [&bytes[..cut], &bytes[cut..]] {
            reader.feed(piece);
            while let Some(part) = reader.next(&mut Head::framing)? {
                match (parts.last_mut(), part) {
                    (Some(Part::Data(data)), Part::Data(more)) => data.extend(more),
                    (_, part) => parts.push(part),
                }
            }
        }
        Ok(parts)
    }

    #[test]
    fn messages_are_read_alike_in_every_cut() {
        let bytes = b"POST / HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n\
            3\r\nabc\r\na\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n\
            PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
        let whole = read(bytes, 0).expect("parts");
        assert_eq!(whole.len(), 6);
        assert_eq!(whole[1], Part::Data(b"abc0123456789".to_vec()));
        assert_eq!(whole[2], Part::End(vec![("Sum".to_owned(), b"1".to_vec())]));
        assert_eq!(whole[4], Part::Data(b"hi".to_vec()));
        for cut in 1..bytes.len() {
            assert_eq!(read(bytes, cut).as_ref(), Ok(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn what_the_proxy_must_not_write_is_an_error() {
        for bad in [
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA:b\r\n\r\n",
            "GET / HTTP/1.1\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b \r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
            "GET\r\n\r\n",
        ] {
            assert!(read(bad.as_bytes(), 0).is_err(), "{bad:?}");
        }
    }
}
