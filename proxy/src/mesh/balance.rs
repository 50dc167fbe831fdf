//! `balancer`, `sticky` and `slow_start` of a service.

use selvedge_core::balance::{Kind, LoadBound};
use selvedge_core::policy::{Affinity, Balancing, Key};
use toml::de::DeValue;

use super::read::{Item, Reader, Table};
use super::route::{is_token, number};
use super::value;

const KINDS: [(&str, Kind); 4] = [
    ("peak-ewma", Kind::PeakEwma),
    ("least-request", Kind::LeastRequest),
    ("round-robin", Kind::RoundRobin),
    ("random", Kind::Random),
];
const HASHES: [(&str, Kind); 2] = [("ring-hash", Kind::RingHash), ("maglev", Kind::Maglev)];

const EXPECTED: &str = r#"expected "peak-ewma", "least-request", "round-robin", "random", { maglev = { header = "x-user" } } or the same with ring-hash"#;
const KEY: &str = r#"expected { header = "x-user" }, { cookie = "session" } or "source""#;

/// The keys that services and forwards share.
pub(super) fn read(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Balancing {
    let mut balancing = Balancing::default();
    if let Some(item) = table.get(reader, "balancer") {
        (balancing.kind, balancing.affinity) = read_balancer(reader, &item).unwrap_or_default();
    }
    table.set(reader, "slow_start", &mut balancing.slow_start, value::duration_or_at_once);
    balancing
}

/// `sticky`.
pub(super) fn read_sticky(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Option<Affinity> {
    let item = table.get(reader, "sticky")?;
    read_affinity(reader, &item)
}

fn read_balancer(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<(Kind, Option<Affinity>)> {
    let Some(mut table) = item.as_table() else {
        return item.read(reader, |v| {
            let kind = KINDS.iter().find(|(name, _)| v.as_str() == Some(name));
            kind.map(|&(_, kind)| (kind, None)).ok_or_else(|| EXPECTED.into())
        });
    };
    let mut found = Vec::new();
    for (name, kind) in HASHES {
        if let Some(item) = table.get(reader, name) {
            found.push((kind, read_affinity(reader, &item)));
        }
    }
    table.finish(reader);
    if found.len() != 1 {
        reader.refuse(&item.site, EXPECTED);
    }
    found.pop()
}

fn read_affinity(reader: &mut Reader<'_>, item: &Item<'_>) -> Option<Affinity> {
    let mut load_bound = LoadBound::default();
    let Some(mut table) = item.as_table() else {
        let source = |v: &DeValue<'_>| (v.as_str() == Some("source")).then_some(Key::Source);
        let key = item.read(reader, |v| source(v).ok_or_else(|| KEY.into()))?;
        return Some(Affinity { key, load_bound });
    };
    let (mut header, mut cookie, mut source) = (None, None, false);
    let name = |v: &DeValue<'_>| {
        let name = v.as_str().filter(|name| is_token(name));
        name.map(Into::into).ok_or_else(|| "expected a name of letters, digits and -_.".to_owned())
    };
    table.set(reader, "header", &mut header, |v| name(v).map(|name| Some(Key::Header(name))));
    table.set(reader, "cookie", &mut cookie, |v| name(v).map(|name| Some(Key::Cookie(name))));
    table.set(reader, "source", &mut source, value::boolean);
    table.set(reader, "load_bound", &mut load_bound, read_bound);
    let given = ["header", "cookie", "source"].map(|key| table.has(key));
    table.finish(reader);
    if given.iter().filter(|&&given| given).count() != 1 {
        reader.refuse(&item.site, KEY);
    }
    let source = source.then_some(Key::Source);
    header.or(cookie).or(source).map(|key| Affinity { key, load_bound })
}

/// How much more than its share; 0: as much as comes.
fn read_bound(value: &DeValue<'_>) -> Result<LoadBound, String> {
    let expected = "expected a number from 1 to 100, or 0 for no bound";
    match number(value, 100.0).map_err(|_| expected.to_owned())? {
        0.0 => Ok(LoadBound::NONE),
        bound if bound >= 1.0 => Ok(LoadBound::thousandths((bound * 1_000.0).round() as u32)),
        _ => Err(expected.into()),
    }
}
