//! What must hold of the reader of mesh files, whatever the file is.

use arbitrary::{Arbitrary, Unstructured};
use selvedge::mesh::Mesh;

/// Every key, with its default.
const REFERENCE: &str = include_str!("../../proxy/src/mesh/reference.toml");

/// Reads a file made of these bytes: as they are, or, if the first one is odd, of keys that there
/// are and values that are often close to good.
///
/// # Panics
/// If something does not hold.
pub fn mesh_file(data: &[u8]) {
    let Some((&choice, bytes)) = data.split_first() else { return };
    if choice % 2 == 0 {
        return check(&String::from_utf8_lossy(bytes));
    }
    if let Ok(lines) = Vec::<Line<'_>>::arbitrary_take_rest(Unstructured::new(bytes)) {
        check(&lines.iter().map(Line::text).collect::<String>());
    }
}

/// A file is good, or everything that is wrong with it has a place, a key and what was expected; and
/// the same file in another layout is the same.
fn check(text: &str) {
    let read = Mesh::parse(text);
    let mut is_toml = true;
    if let Err(problems) = &read {
        assert!(!problems.is_empty(), "refused without a reason: {text:?}");
        for problem in problems {
            let lines = text.matches('\n').count() + 1;
            assert!((1..=lines).contains(&problem.line), "{problem:?} is not in {text:?}");
            // What has a column is no TOML; the parser says what it found.
            is_toml &= problem.column.is_none();
            let is_whole =
                !key(&problem.message).is_empty() && problem.message.contains("expected");
            assert!(problem.column.is_some() || is_whole, "{problem:?}");
            assert!(!problem.message.contains('\n') || problem.column.is_some(), "{problem:?}");
        }
    }
    // Numbers beyond 64 bits and the like cannot be written again.
    let Ok(document) = text.parse::<toml::Table>() else {
        return assert!(read.is_err(), "accepted, but no TOML: {text:?}");
    };
    assert!(is_toml, "refused as no TOML: {read:?} {text:?}");
    let written = toml::to_string(&document).expect("a document can be written");
    match (read, Mesh::parse(&written)) {
        (Ok(read), Ok(again)) => assert_eq!(read, again, "{text:?} {written:?}"),
        (Err(problems), Err(again)) => {
            let keys = |problems: &[selvedge::mesh::Problem]| {
                let keys = problems.iter().map(|problem| key(&problem.message).to_owned());
                let mut keys: Vec<_> = keys.collect();
                keys.sort();
                keys
            };
            assert_eq!(keys(&problems), keys(&again), "{text:?} {written:?}");
        }
        (read, again) => panic!("{read:?} {text:?}\nthen {again:?} {written:?}"),
    }
}

/// The key that a complaint is about.
fn key(message: &str) -> &str {
    let ends = [" = ", ": "].map(|end| message.find(end).unwrap_or(0));
    match ends {
        [0, end] | [end, 0] => &message[..end],
        [one, other] => &message[..one.min(other)],
    }
}

/// A line of a file.
#[derive(Arbitrary)]
enum Line<'a> {
    Section(u8),
    Entry(u8, Value<'a>),
}

#[derive(Arbitrary)]
enum Value<'a> {
    /// One that the reference shows, or one like those.
    Known(u8),
    Endpoints(Vec<(u8, u8)>),
    Integer(i64),
    Small(u8),
    Text(&'a str),
}

/// Values where something happens; their sections and keys are in the reference.
const VALUES: [&str; 22] = [
    "true",
    "0",
    "1.5",
    "nan",
    "1979-05-27",
    "{}",
    "[]",
    "\"0.0.0.0:4140\"",
    "\"127.0.0.1:4143\"",
    "\"[::]:4140\"",
    "\"[::1]:0\"",
    "\"localhost:4140\"",
    "\"web.example\"",
    "\"web.example:80\"",
    "\"WEB.example.:80\"",
    "\"10s\"",
    "\"0\"",
    "\"18446744073709551615ms\"",
    "\"99999999d\"",
    "[1, \"3000-3010\", \"5-4\"]",
    "[\"10.0.0.1:80\", { addr = \"a.local:1\", weight = 2 }]",
    "{ addr = \"10.0.0.1:80\", weight = 0 }",
];

impl Line<'_> {
    fn text(&self) -> String {
        match self {
            Line::Section(index) => {
                let sections = REFERENCE.lines().map(|line| line.trim_start_matches("# "));
                one_of(sections.filter(|line| line.starts_with('[')), *index) + "\n"
            }
            Line::Entry(index, value) => {
                let lines = REFERENCE.lines().map(|line| line.trim_start_matches("# "));
                let keys = lines.filter_map(|line| line.split_once(" = ")).map(|(key, _)| key);
                format!("{} = {}\n", one_of(keys, *index), value.text())
            }
        }
    }
}

impl Value<'_> {
    fn text(&self) -> String {
        match self {
            Value::Known(index) => {
                let lines = REFERENCE.lines().map(|line| line.trim_start_matches("# "));
                let shown = lines.filter_map(|line| line.split_once(" = "));
                let shown = shown.map(|(_, value)| value.split('#').next().unwrap_or(value));
                one_of(shown.chain(VALUES), *index)
            }
            Value::Endpoints(endpoints) => {
                let text = endpoints.iter().map(|(host, weight)| {
                    format!("{{ addr = \"10.0.0.{host}:80\", weight = {weight} }}")
                });
                format!("[{}]", text.collect::<Vec<_>>().join(", "))
            }
            Value::Integer(number) => number.to_string(),
            Value::Small(number) => number.to_string(),
            Value::Text(text) => format!("{:?}", text.replace('\'', "")),
        }
    }
}

fn one_of<'a>(items: impl Iterator<Item = &'a str>, index: u8) -> String {
    let items: Vec<&str> = items.collect();
    items[usize::from(index) % items.len()].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_and_what_is_wrong_with_others_hold() {
        check(REFERENCE);
        check("[proxy]\noutbound = 1\nx = 2\n[[service]]\nendpoints = [{ weight = 0 }, \"a\"]");
        check("[proxy\n");
        check("\u{feff}a = \"\n");
    }

    #[test]
    fn structured_bytes_make_good_files_too() {
        let mut random = 1_u32;
        let mut good = 0;
        for _ in 0..2000 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .take(24)
            .collect();
            let lines = Vec::<Line<'_>>::arbitrary_take_rest(Unstructured::new(&bytes));
            let Ok(lines) = lines else { continue };
            let text: String = lines.iter().map(Line::text).collect();
            check(&text);
            good += u32::from(Mesh::parse(&text).is_ok());
        }
        assert!(good > 20, "{good}");
    }
}
