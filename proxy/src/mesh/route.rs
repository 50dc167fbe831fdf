//! `[[route]]`: what is done with which requests.

use std::sync::Arc;

use selvedge_core::http::authority::normalize;
use selvedge_core::policy::{
    Backend, Failure, FieldMatch, Fixed, GrpcMatch, HeaderChanges, HostMatch, Match, Mirror,
    NewPath, PathMatch, Pattern, Redirect, Route, RouteTimeouts, Split, ValueMatch,
};
use toml::de::DeValue;

use super::check::Sites;
use super::read::{Item, Reader, Table};
use super::{retry, value};

/// One `[[route]]`.
pub(super) fn read(reader: &mut Reader<'_>, mut table: Table<'_>, sites: &mut Sites) -> Route {
    let mut route = Route::default();
    let expected = "expected the authority of a service";
    if let Some(item) = table.require(reader, "service", expected)
        && let Some(service) = read_service(reader, &item, sites)
    {
        route.service = service;
    }
    if let Some(item) = table.get(reader, "hosts") {
        let expected = r#"expected a list like ["web.example", "*.example"]"#;
        let items = item.array(reader, expected);
        route.hosts = items.iter().filter_map(|item| item.read(reader, host)).collect();
    }
    if let Some(table) = table.table(reader, "match") {
        route.matches = read_match(reader, table);
    }
    let allow = &mut route.allow_l5d_request_headers;
    table.set(reader, "allow_l5d_request_headers", allow, value::boolean);
    if let Some(table) = table.table(reader, "timeouts") {
        route.timeouts = read_timeouts(reader, table);
    }
    if let Some(table) = table.table(reader, "retry") {
        route.retry = Some(retry::read(reader, table));
    }
    if let Some(mut headers) = table.table(reader, "headers") {
        for (key, changes) in
            [("request", &mut route.changes.request), ("response", &mut route.changes.response)]
        {
            if let Some(table) = headers.table(reader, key) {
                *changes = read_changes(reader, table);
            }
        }
        headers.finish(reader);
    }
    let split = read_split(reader, &mut table, sites);
    if let Some(mirror) = table.table(reader, "mirror") {
        route.mirror = read_mirror(reader, mirror, &route.service, &split, sites);
    }
    let matched = match &route.matches.path {
        PathMatch::Prefix(path) => path.strip_suffix('/').unwrap_or(path).len(),
        _ => 0,
    };
    let redirect = table.table(reader, "redirect");
    let redirects = redirect.is_some();
    if let Some(table) = redirect {
        let is_prefix = matches!(route.matches.path, PathMatch::Prefix(_));
        let redirect = read_redirect(reader, table, is_prefix.then_some(matched));
        route.fixed = Some(Fixed::Redirect(redirect));
    }
    if let Some(table) = table.table(reader, "fail") {
        if redirects {
            reader.refuse(&table.site, "expected either redirect or fail");
        }
        route.fixed = Some(Fixed::Failure(read_failure(reader, table)));
    }
    route.split = split;
    table.finish(reader);
    route
}

fn read_service(reader: &mut Reader<'_>, item: &Item<'_>, sites: &mut Sites) -> Option<Arc<str>> {
    let service = item.read(reader, value::authority)?;
    sites.use_of(item.site.clone(), &service);
    Some(service)
}

/// `match`.
fn read_match(reader: &mut Reader<'_>, mut table: Table<'_>) -> Match {
    let mut matches = Match::default();
    let mut first: Option<&str> = None;
    for key in ["path", "path_prefix", "path_regex", "grpc"] {
        let Some(item) = table.get(reader, key) else { continue };
        if let Some(first) = first {
            reader.refuse(&item.site, &format!("expected either {first} or {key}"));
        }
        first = Some(key);
        match key {
            "path" => {
                let read = item.read(reader, path);
                matches.path = read.map(PathMatch::Exact).unwrap_or_default();
            }
            "path_prefix" => {
                let read = item.read(reader, path);
                matches.path = read.map(PathMatch::Prefix).unwrap_or_default();
            }
            "path_regex" => {
                let read = item.read(reader, pattern);
                matches.path = read.map(PathMatch::Regex).unwrap_or_default();
            }
            _ => {
                let expected = r#"expected a table like { service = "a.B", method = "Get" }"#;
                matches.grpc = item.table(reader, expected).map(|table| read_grpc(reader, table));
            }
        }
    }
    if let Some(item) = table.get(reader, "method") {
        let items = item.array(reader, r#"expected a list like ["GET", "PUT"]"#);
        matches.methods = items.iter().filter_map(|item| item.read(reader, method)).collect();
    }
    if let Some(table) = table.table(reader, "headers") {
        let named = |name: &str| {
            let expected = || "expected the name of a header field".to_owned();
            is_token(name).then(|| name.to_ascii_lowercase().into()).ok_or_else(expected)
        };
        matches.headers = read_fields(reader, table, named);
    }
    if let Some(table) = table.table(reader, "query") {
        matches.query = read_fields(reader, table, |name| Ok(name.into()));
    }
    table.finish(reader);
    matches
}

fn read_grpc(reader: &mut Reader<'_>, mut table: Table<'_>) -> GrpcMatch {
    let mut grpc = GrpcMatch::default();
    let GrpcMatch { service, method } = &mut grpc;
    let name = |v: &DeValue<'_>| {
        v.as_str()
            .filter(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            })
            .map(|name| Some(name.into()))
            .ok_or_else(|| r#"expected a name without slashes, like "helloworld.Greeter""#.into())
    };
    table.set(reader, "service", service, name);
    table.set(reader, "method", method, name);
    table.finish(reader);
    grpc
}

/// Fields or parameters by name, each with what its value has to be.
fn read_fields(
    reader: &mut Reader<'_>,
    table: Table<'_>,
    named: impl Fn(&str) -> Result<Box<str>, String>,
) -> Vec<FieldMatch> {
    let mut fields = Vec::new();
    for (key, item) in table.each(reader) {
        let name = match named(&key) {
            Ok(name) => name,
            Err(expected) => {
                reader.refuse(&item.site, &expected);
                continue;
            }
        };
        let value = match item.as_table() {
            Some(table) => read_value_match(reader, &item, table),
            None => item.read(reader, |v| {
                let expected =
                    r#"expected a text, { regex = "…" } or { present = true }"#.to_owned();
                v.as_str().map(|text| ValueMatch::Exact(text.into())).ok_or(expected)
            }),
        };
        fields.extend(value.map(|value| FieldMatch { name, value }));
    }
    fields
}

fn read_value_match(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    mut table: Table<'_>,
) -> Option<ValueMatch> {
    let regex = table.get(reader, "regex");
    let present = table.get(reader, "present");
    table.finish(reader);
    match (regex, present) {
        (Some(regex), None) => regex.read(reader, pattern).map(ValueMatch::Regex),
        (None, Some(present)) => present.read(reader, |v| match v.as_bool() {
            Some(true) => Ok(ValueMatch::Present),
            _ => Err("expected true".into()),
        }),
        _ => {
            reader.refuse(&item.site, r#"expected either { regex = "…" } or { present = true }"#);
            None
        }
    }
}

/// `timeouts` of a route.
fn read_timeouts(reader: &mut Reader<'_>, mut table: Table<'_>) -> RouteTimeouts {
    let mut timeouts = RouteTimeouts::default();
    // Without `..`: a timeout that the core gains is missed here at compile time.
    let RouteTimeouts { request, response, idle } = &mut timeouts;
    for (key, slot) in [("request", request), ("response", response), ("idle", idle)] {
        // `None` inherits, so "no limit" is a limit that is never reached.
        table.set(reader, key, slot, |v| value::duration_or_endless(v).map(Some));
    }
    table.finish(reader);
    timeouts
}

/// `set`, `add` and `remove`.
fn read_changes(reader: &mut Reader<'_>, mut table: Table<'_>) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    let mut seen: Vec<Box<str>> = Vec::new();
    let mut may_change = |reader: &mut Reader<'_>, item: &Item<'_>, name: &str| {
        let name = name.to_ascii_lowercase().into_boxed_str();
        if !HeaderChanges::may_change(&name) {
            reader.refuse(&item.site, "expected a header field that neither frames nor routes");
        } else if seen.contains(&name) {
            reader.refuse(&item.site, "expected every name once in set, add and remove");
        } else {
            seen.push(name.clone());
            return Some(name);
        }
        None
    };
    for (key, slot) in [("set", &mut changes.set), ("add", &mut changes.add)] {
        let Some(table) = table.table(reader, key) else { continue };
        for (name, item) in table.each(reader) {
            let Some(name) = may_change(reader, &item, &name) else { continue };
            let value = item.read(reader, |v| {
                let expected = "expected the value of a header field, in ASCII".to_owned();
                v.as_str()
                    .filter(|text| HeaderChanges::is_value(text))
                    .ok_or(expected)
                    .map(Box::from)
            });
            slot.extend(value.map(|value| (name, value)));
        }
    }
    if let Some(item) = table.get(reader, "remove") {
        for item in item.array(reader, r#"expected a list like ["x-debug"]"#) {
            let expected = || "expected the name of a header field".to_owned();
            let name = item.read(reader, |v| v.as_str().map(str::to_owned).ok_or_else(expected));
            let name = name.and_then(|name| may_change(reader, &item, &name));
            changes.remove.extend(name);
        }
    }
    table.finish(reader);
    changes
}

/// `split` or `first_available`.
fn read_split(reader: &mut Reader<'_>, table: &mut Table<'_>, sites: &mut Sites) -> Split {
    let weighted = table.get(reader, "split");
    let first = table.get(reader, "first_available");
    if let (Some(_), Some(first)) = (&weighted, &first) {
        reader.refuse(&first.site, "expected either split or first_available");
    }
    let mut backends = Vec::new();
    if let Some(list) = weighted {
        let expected = r#"expected a list like [{ service = "web-v1.example", weight = 90 }]"#;
        for item in list.array(reader, expected) {
            let Some(mut table) = item.table(reader, expected) else { continue };
            let mut weight = 1;
            table.set(reader, "weight", &mut weight, |v| {
                value::integer(v, 0, 1_000_000).map(|n| n as u32)
            });
            let service = table.require(reader, "service", "expected the authority of a service");
            table.finish(reader);
            let service = service.and_then(|item| read_service(reader, &item, sites));
            backends.extend(service.map(|service| Backend { service, weight }));
        }
        if backends.iter().all(|backend| backend.weight == 0) {
            reader.refuse(&list.site, "expected at least one service with a weight above 0");
        }
        return Split::Weighted(backends);
    }
    if let Some(list) = first {
        let expected = r#"expected a list like ["web-a.example", "web-b.example"]"#;
        let items = list.array(reader, expected);
        if items.is_empty() {
            reader.refuse(&list.site, "expected at least one service");
        }
        for item in items {
            let service = read_service(reader, &item, sites);
            backends.extend(service.map(|service| Backend { service, weight: 1 }));
        }
        return Split::FirstAvailable(backends);
    }
    Split::None
}

/// `mirror`, of requests that go to `service` or are shared out by `split`.
fn read_mirror(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    service: &str,
    split: &Split,
    sites: &mut Sites,
) -> Option<Mirror> {
    let (mut fraction, mut timeout) = (1.0, Mirror::TIMEOUT);
    table.set(reader, "fraction", &mut fraction, ratio);
    table.set(reader, "timeout", &mut timeout, value::duration);
    let item = table.require(reader, "service", "expected the authority of a service");
    table.finish(reader);
    let item = item?;
    let mirror = read_service(reader, &item, sites)?;
    let mut backends = split.backends().iter().map(|backend| &*backend.service);
    let gets_them = match split {
        Split::None => *mirror == *service,
        _ => backends.any(|backend| *mirror == *backend),
    };
    if gets_them {
        reader.refuse(&item.site, "expected a service that the requests do not go to anyway");
    }
    Some(Mirror::new(mirror, fraction, timeout))
}

/// `redirect`. `matched`: how much of a path the route matches as a prefix.
fn read_redirect(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
    matched: Option<usize>,
) -> Redirect {
    let mut redirect = Redirect { status: 301, scheme: None, host: None, port: None, path: None };
    let Redirect { status, scheme, host, port, path: new } = &mut redirect;
    if !["scheme", "host", "port", "path", "path_prefix"].iter().any(|key| table.has(key)) {
        let says =
            "expected scheme, host, port, path or path_prefix: it leads back to where it began";
        reader.refuse(&table.site, says);
    }
    table.set(reader, "status", status, |v| match value::integer(v, 301, 308) {
        Ok(status @ (301 | 302 | 303 | 307 | 308)) => Ok(status as u16),
        _ => Err("expected 301, 302, 303, 307 or 308".into()),
    });
    table.set(reader, "scheme", scheme, |v| match v.as_str() {
        Some(scheme @ ("http" | "https")) => Ok(Some(scheme.into())),
        _ => Err(r#"expected "http" or "https""#.into()),
    });
    table.set(reader, "host", host, |v| {
        let host = v.as_str().filter(|host| !host.contains(':')).and_then(normalize_host);
        host.map(Some).ok_or_else(|| r#"expected a host, like "www.example""#.into())
    });
    table.set(reader, "port", port, |v| value::integer(v, 1, 65_535).map(|n| Some(n as u16)));
    let full = table.get(reader, "path");
    let prefix = table.get(reader, "path_prefix");
    table.finish(reader);
    if let Some(item) = &full {
        *new = item.read(reader, path).map(NewPath::Full);
    }
    if let Some(item) = &prefix {
        let with = item.read(reader, path);
        match (matched, full) {
            (_, Some(_)) => reader.refuse(&item.site, "expected either path or path_prefix"),
            (None, _) => reader.refuse(&item.site, "expected a route with match.path_prefix"),
            (Some(matched), None) => *new = with.map(|with| NewPath::Prefix(matched, with)),
        }
    }
    redirect
}

/// `fail`.
fn read_failure(reader: &mut Reader<'_>, mut table: Table<'_>) -> Failure {
    let mut failure = Failure {
        status: 503,
        grpc: None,
        message: "failure injected by a route".into(),
        ratio: 1.0,
    };
    let Failure { status, grpc, message, ratio: part } = &mut failure;
    table.set(reader, "status", status, |v| value::integer(v, 200, 599).map(|n| n as u16));
    table.set(reader, "grpc_status", grpc, |v| value::integer(v, 1, 16).map(|n| Some(n as u8)));
    table.set(reader, "message", message, |v| {
        let is_plain = |text: &&str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        let expected = "expected a text in ASCII, on one line";
        v.as_str().filter(is_plain).map(|text| text.trim().into()).ok_or(expected.into())
    });
    table.set(reader, "ratio", part, ratio);
    table.finish(reader);
    failure
}

// ---- Values ----

/// A number from 0 to 1.
fn ratio(value: &DeValue<'_>) -> Result<f64, String> {
    number(value, 1.0)
}

/// A number from 0 to `max`.
pub(super) fn number(value: &DeValue<'_>, max: f64) -> Result<f64, String> {
    let number = match value {
        DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
        _ => value::integer(value, 0, max as u64).ok().map(|n| n as f64),
    };
    number
        .filter(|number| (0.0..=max).contains(number))
        .ok_or_else(|| format!("expected a number from 0 to {max}"))
}

/// A number, or a range of numbers `"a-b"`, both ends included.
pub(super) fn range(value: &DeValue<'_>, min: u16, max: u16) -> Result<(u16, u16), String> {
    let expected =
        || format!(r#"expected a number from {min} to {max}, or a range like "{min}-{max}""#);
    let number = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && (min..=max).contains(n))
    };
    let range = match value.as_str() {
        None => value::integer(value, min.into(), max.into()).ok().map(|n| (n as u16, n as u16)),
        Some(text) => match text.split_once('-') {
            Some((low, high)) => number(low).zip(number(high)),
            None => number(text).map(|n| (n, n)),
        },
    };
    range.filter(|(low, high)| low <= high).ok_or_else(expected)
}

pub(super) fn is_token(text: &str) -> bool {
    let is_tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_tchar)
}

pub(super) fn method(value: &DeValue<'_>) -> Result<Box<str>, String> {
    let method = value.as_str().filter(|text| is_token(text) && *text == text.to_uppercase());
    method.map(Box::from).ok_or_else(|| r#"expected a method in upper case, like "GET""#.into())
}

/// What a request target may have as its path (RFC 9112 §3.2.1).
fn path(value: &DeValue<'_>) -> Result<Box<str>, String> {
    let is_path = |text: &&str| {
        text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#".contains(&b))
    };
    value.as_str().filter(is_path).map(Box::from).ok_or_else(|| {
        r#"expected a path as clients write it, like "/api/v1", without a query"#.into()
    })
}

fn pattern(value: &DeValue<'_>) -> Result<Pattern, String> {
    let text = value.as_str().ok_or_else(|| "expected a regular expression".to_owned())?;
    Pattern::new(text).map_err(|error| format!("expected a regular expression, but {error}"))
}

/// `name`, `*.name` or `*`, with or without a port.
fn host(value: &DeValue<'_>) -> Result<HostMatch, String> {
    let expected = || r#"expected a host like "web.example", "*.example:8080" or "*""#.to_owned();
    let text = value.as_str().ok_or_else(expected)?;
    if text == "*" {
        return Ok(HostMatch::Any);
    }
    match text.strip_prefix("*.") {
        Some(rest) => {
            let name = normalize_host(rest).filter(|name| !name.starts_with('['));
            name.map(|name| HostMatch::Suffix(format!(".{name}").into())).ok_or_else(expected)
        }
        None => normalize_host(text).map(HostMatch::Exact).ok_or_else(expected),
    }
}

/// As requests are normalised, but for a port that is not there.
fn normalize_host(text: &str) -> Option<Box<str>> {
    let plausible = value::is_host(text);
    let mut name = String::new();
    // Port 0 is nobody's.
    normalize(text.as_bytes(), 0, &mut name).ok().filter(|()| plausible)?;
    Some(name.strip_suffix(":0").unwrap_or(&name).into())
}
