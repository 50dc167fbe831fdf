//! The notation for bytes in the table.

/// The most that one `{"…"*N}` may repeat: a typing error must not eat the memory.
const MOST: usize = 1_000_000;

/// Decodes `\r \n \t \0 \\ \xNN` and `{"…"*N}`; all else stands for itself.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{\"") {
        plain(&rest[..at], &mut out)?;
        let inner = &rest[at + 2..];
        let (unit, after) = inner.split_once("\"*").ok_or_else(|| format!("`{rest}`: no `\"*`"))?;
        let (count, after) = after.split_once('}').ok_or_else(|| format!("`{rest}`: no `}}`"))?;
        let count: usize = count.parse().map_err(|_| format!("`{count}`: no count"))?;
        if count > MOST {
            return Err(format!("{count} is over {MOST}"));
        }
        let mut piece = Vec::new();
        plain(unit, &mut piece)?;
        for _ in 0..count {
            out.extend_from_slice(&piece);
        }
        rest = after;
    }
    plain(rest, &mut out)?;
    Ok(out)
}

/// Decodes a text without repetitions.
fn plain(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.as_bytes().first() {
            Some(b'r') => (b'\r', 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (0, 1),
            Some(b'\\') => (b'\\', 1),
            Some(b'x') => {
                let digits = escape
                    .get(1..3)
                    .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or_else(|| format!("`\\{escape}`: two hexadecimal digits"))?, 3)
            }
            _ => return Err(format!("`\\{escape}`: unknown escape")),
        };
        out.push(byte);
        rest = &escape[length..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(())
}
