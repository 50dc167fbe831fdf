//! A reader over parsed TOML that collects everything that is wrong instead of stopping at the
//! first of it.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a mesh file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it stands on, from 1.
    pub line: usize,
    /// The column, from 1: only where there is no key to name it by.
    pub column: Option<usize>,
    /// Key, value and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.line)?;
        if let Some(column) = self.column {
            write!(f, "{column}:")?;
        }
        write!(f, " {}", self.message)
    }
}

/// Where a value stands and how it was written: enough to complain about it later.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Its key path: `service[1].endpoints[0].weight`.
    pub path: String,
    at: usize,
    /// As in the file; empty for a whole table.
    shown: String,
}

impl Site {
    /// A value that the file does not give.
    pub(super) fn default_of(path: &str) -> Site {
        Site { path: path.into(), at: 0, shown: String::new() }
    }
}

/// Collects what is wrong with one file.
pub(super) struct Reader<'a> {
    text: &'a str,
    problems: Vec<(usize, Problem)>,
}

impl<'a> Reader<'a> {
    /// Values shown in a message are cut to this many characters.
    const SHOWN: usize = 60;

    pub(super) fn new(text: &'a str) -> Self {
        Reader { text, problems: Vec::new() }
    }

    /// Complains about a value.
    pub(super) fn refuse(&mut self, site: &Site, expected: &str) {
        let Site { path, at, shown } = site;
        let message = if shown.is_empty() {
            format!("{path}: {expected}")
        } else {
            format!("{path} = {shown}: {expected}")
        };
        let line = self.position(*at).0;
        self.problems.push((*at, Problem { line, column: None, message }));
    }

    /// Complains about the form of the file.
    pub(super) fn refuse_syntax(&mut self, at: usize, message: &str) {
        let (line, column) = self.position(at);
        self.problems.push((at, Problem { line, column: Some(column), message: message.into() }));
    }

    /// Everything that was wrong, in the order of the file.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|&(at, _)| at);
        self.problems.into_iter().map(|(_, problem)| problem).collect()
    }

    /// Line and column of a byte, both from 1. Only complaints ask, so it may count every time.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn show(&self, span: Range<usize>, value: &DeValue<'_>) -> String {
        let source = self.text.get(span).unwrap_or_default();
        // The span of a table with a header of its own is that header.
        if matches!(value, DeValue::Table(_)) && source.starts_with('[') {
            return String::new();
        }
        let mut shown: String = source
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(Self::SHOWN + 1)
            .collect();
        if shown.chars().count() > Self::SHOWN {
            shown.pop();
            shown.push('…');
        }
        shown
    }
}

/// One value and its place.
pub(super) struct Item<'a> {
    pub site: Site,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    fn new(reader: &Reader<'_>, path: String, spanned: &'a Spanned<DeValue<'a>>) -> Self {
        let value = spanned.get_ref();
        let site =
            Site { path, at: spanned.span().start, shown: reader.show(spanned.span(), value) };
        Item { site, value }
    }

    /// Reads the value, or complains with what `read` says was expected.
    pub(super) fn read<T>(
        &self,
        reader: &mut Reader<'_>,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        read(self.value).map_err(|expected| reader.refuse(&self.site, &expected)).ok()
    }

    /// The value as a table, if it is one.
    pub(super) fn as_table(&self) -> Option<Table<'a>> {
        self.value.as_table().map(|entries| Table {
            site: self.site.clone(),
            entries,
            known: Vec::new(),
        })
    }

    /// The value as a table, or a complaint.
    pub(super) fn table(&self, reader: &mut Reader<'_>, expected: &str) -> Option<Table<'a>> {
        let table = self.as_table();
        if table.is_none() {
            reader.refuse(&self.site, expected);
        }
        table
    }

    /// The elements of an array, or a complaint.
    pub(super) fn array(&self, reader: &mut Reader<'_>, expected: &str) -> Vec<Item<'a>> {
        let Some(array) = self.value.as_array() else {
            reader.refuse(&self.site, expected);
            return Vec::new();
        };
        let element = |(index, spanned)| {
            let path = format!("{}[{index}]", self.site.path);
            Item::new(reader, path, spanned)
        };
        array.iter().enumerate().map(element).collect()
    }
}

/// A table while it is read. Whatever key nobody asked for is unknown.
pub(super) struct Table<'a> {
    pub site: Site,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    /// The whole document.
    pub(super) fn root(entries: &'a DeTable<'a>) -> Self {
        Table { site: Site::default_of(""), entries, known: Vec::new() }
    }

    /// The value of a key, if the file gives it.
    pub(super) fn get(&mut self, reader: &Reader<'_>, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        let spanned = self.entries.get(key)?;
        Some(Item::new(reader, self.path_of(key), spanned))
    }

    /// Does the file give a key?
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of a key that must be there.
    pub(super) fn require(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        expected: &str,
    ) -> Option<Item<'a>> {
        let item = self.get(reader, key);
        if item.is_none() {
            let site = Site { path: self.path_of(key), ..self.site.clone() };
            let site = Site { shown: String::new(), ..site };
            reader.refuse(&site, &format!("missing, {expected}"));
        }
        item
    }

    /// The table of a key, if the file gives it.
    pub(super) fn table(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
    ) -> Option<Table<'a>> {
        let item = self.get(reader, key)?;
        item.table(reader, &format!("expected a table: {key} = {{ … }}"))
    }

    /// Every key with its value: of a table whose keys are the user's.
    pub(super) fn each(self, reader: &Reader<'_>) -> Vec<(String, Item<'a>)> {
        let item = |(key, value): (&'a Spanned<_>, &'a Spanned<DeValue<'a>>)| {
            let key: &std::borrow::Cow<'_, str> = key.get_ref();
            // A key may be anything, and a complaint is one line.
            let path = self.path_of(&key.escape_default().to_string());
            (key.to_string(), Item::new(reader, path, value))
        };
        self.entries.iter().map(item).collect()
    }

    /// Puts the value of a key into `slot`, if the file gives it.
    pub(super) fn set<T>(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        slot: &mut T,
        read: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) {
        let item = self.get(reader, key);
        if let Some(value) = item.and_then(|item| item.read(reader, read)) {
            *slot = value;
        }
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(self, reader: &mut Reader<'_>) {
        for (key, value) in self.entries {
            if self.known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let mut site = Item::new(reader, self.path_of(key.get_ref()), value).site;
            site.at = key.span().start;
            let mut known = self.known.clone();
            known.sort_unstable();
            reader.refuse(&site, &format!("unknown key, expected one of {}", known.join(", ")));
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.site.path.is_empty() { key.into() } else { format!("{}.{key}", self.site.path) }
    }
}
