//! `[[inbound]]`: who may reach one port of the app, and how much of that it takes.

use std::net::IpAddr;

use selvedge_core::config::{Allow, InboundPort};
use selvedge_core::identity::Pattern;
use selvedge_core::policy::gradient::Adaptive;
use selvedge_core::policy::rate::{ClientMatch, Override};
use selvedge_core::policy::{Concurrency, RateLimit};
use toml::de::DeValue;

use super::check::Sites;
use super::read::{Item, Reader, Table};
use super::value;

/// One `[[inbound]]`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    sites: &mut Sites,
) -> Option<InboundPort> {
    let port = table.require(reader, "port", "expected a port of the app").and_then(|item| {
        let port = item.read(reader, value::port)?;
        sites.inbound(item.site, port);
        Some(port)
    });
    let rate_limit = table.table(reader, "rate_limit");
    let concurrency = read_concurrency(reader, &mut table);
    let limited = rate_limit.is_some() || concurrency != Concurrency::default();
    let rate_limit = rate_limit.map(|table| read_rate_limit(reader, table, sites));
    let expected = r#"expected a list like ["*.ns.cluster.local", "unauthenticated"]"#;
    // A table that says nothing else is there to say who may.
    let allow = if limited {
        table.get(reader, "allow")
    } else {
        table.require(reader, "allow", &format!("{expected}, or a limit"))
    };
    let allow = match allow {
        Some(list) => read_allow(reader, &list, expected, sites),
        None => vec![Allow::Unauthenticated],
    };
    table.finish(reader);
    Some(InboundPort { rate_limit, concurrency, ..InboundPort::new(port?, allow) })
}

/// How many requests at once, of a port or a service.
pub(super) fn read_concurrency(reader: &mut Reader<'_>, table: &mut Table<'_>) -> Concurrency {
    let mut concurrency = Concurrency::default();
    // Without `..`: what the core gains is missed here at compile time.
    let Concurrency { max_in_flight, max_queue, queue_timeout, adaptive } = &mut concurrency;
    const COUNT: u64 = 100_000_000;
    table.set(reader, "max_in_flight", max_in_flight, |v| {
        value::integer(v, 1, COUNT).map(|n| Some(n as u32))
    });
    *adaptive = table.table(reader, "adaptive").map(|table| read_adaptive(reader, table));
    let bounded = max_in_flight.is_some() || adaptive.is_some();
    for key in ["max_queue", "queue_timeout"] {
        let Some(item) = table.get(reader, key) else { continue };
        if key == "max_queue" {
            let read = item.read(reader, |v| value::integer(v, 0, COUNT));
            *max_queue = read.map_or(0, |n| n as u32);
        } else {
            let read = item.read(reader, value::duration_or_endless);
            *queue_timeout = read.unwrap_or(*queue_timeout);
        }
        if !bounded {
            reader.refuse(&item.site, "expected only beside max_in_flight or adaptive");
        }
    }
    concurrency
}

/// `adaptive`.
fn read_adaptive(reader: &mut Reader<'_>, mut table: Table<'_>) -> Adaptive {
    let mut adaptive = Adaptive::default();
    // Without `..`: what the core gains is missed here at compile time.
    let Adaptive { min, max } = &mut adaptive;
    table.set(reader, "min", min, |v| value::integer(v, 1, 1_000_000).map(|n| n as u32));
    let least = *min;
    *max = least.max(*max);
    table.set(reader, "max", max, |v| {
        value::integer(v, u64::from(least), 1_000_000)
            .map(|n| n as u32)
            .map_err(|_| format!("expected an integer from min, which is {least}, to 1000000"))
    });
    table.finish(reader);
    adaptive
}

fn read_allow(
    reader: &mut Reader<'_>,
    list: &Item<'_>,
    expected: &str,
    sites: &mut Sites,
) -> Vec<Allow> {
    let mut allow = Vec::new();
    for item in list.array(reader, expected) {
        let Some(one) = item.read(reader, value::allow) else { continue };
        if one != Allow::Unauthenticated {
            sites.meshed(item.site);
        }
        allow.push(one);
    }
    allow
}

/// Requests a second.
fn rps(value: &DeValue<'_>) -> Result<u32, String> {
    value::integer(value, 1, 100_000_000).map(|rps| rps as u32)
}

/// `rate_limit`.
fn read_rate_limit(reader: &mut Reader<'_>, mut table: Table<'_>, sites: &mut Sites) -> RateLimit {
    let mut limit = RateLimit::default();
    // Without `..`: what the core gains is missed here at compile time.
    let RateLimit { total, per_client, overrides } = &mut limit;
    let mut says_something = false;
    for (key, slot) in [("rps", total), ("per_client", per_client)] {
        let Some(item) = table.get(reader, key) else { continue };
        says_something = true;
        *slot = item.read(reader, rps);
    }
    if let Some(list) = table.get(reader, "overrides") {
        says_something = true;
        let expected =
            r#"expected a list like [{ clients = ["*.batch.local", "10.0.0.0/8"], rps = 10 }]"#;
        for item in list.array(reader, expected) {
            let Some(table) = item.table(reader, expected) else { continue };
            overrides.extend(read_override(reader, table, sites));
        }
    }
    if !says_something {
        reader.refuse(&table.site, "expected rps, per_client or overrides");
    }
    table.finish(reader);
    limit
}

fn read_override(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    sites: &mut Sites,
) -> Option<Override> {
    let expected = r#"expected a list like ["*.batch.local", "10.0.0.0/8"]"#;
    let clients = table.require(reader, "clients", expected).map(|list| {
        let items = list.array(reader, expected);
        if items.is_empty() {
            reader.refuse(&list.site, "expected at least one client");
        }
        let mut clients = Vec::new();
        for item in items {
            let Some(client) = item.read(reader, client) else { continue };
            if let ClientMatch::Identity(_) = client {
                sites.meshed(item.site);
            }
            clients.push(client);
        }
        clients
    });
    let rate = table.require(reader, "rps", "expected requests a second");
    let rate = rate.and_then(|item| item.read(reader, rps));
    table.finish(reader);
    Some(Override { clients: clients?, rps: rate? })
}

/// Whom an override is for.
fn client(value: &DeValue<'_>) -> Result<ClientMatch, String> {
    let expected = || {
        r#"expected a name, "*." and what names end in, a spiffe URI, "*", an address or a network like "10.0.0.0/8""#
            .to_owned()
    };
    let text = value.as_str().ok_or_else(expected)?;
    let (addr, len) = text.split_once('/').unwrap_or((text, ""));
    if let Ok(addr) = addr.parse::<IpAddr>() {
        let most: u8 = if addr.is_ipv4() { 32 } else { 128 };
        let digits = len.bytes().all(|b| b.is_ascii_digit());
        let len = if text.contains('/') {
            len.parse().ok().filter(|len| digits && *len <= most)
        } else {
            Some(most)
        };
        return len.map(|len| ClientMatch::Network(addr, len)).ok_or_else(expected);
    }
    Pattern::parse(text).map(ClientMatch::Identity).map_err(|_| expected())
}
