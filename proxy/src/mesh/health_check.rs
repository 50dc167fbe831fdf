//! `health_check` of a service.

use selvedge_core::policy::{CheckKind, HealthCheck};
use toml::de::DeValue;

use super::read::{Reader, Table};
use super::value;

/// Longer names are no names of services, and longer paths are for nobody's health.
const LONGEST: usize = 1024;

type Read = fn(&DeValue<'_>) -> Result<CheckKind, String>;

/// `health_check`.
pub(super) fn read(reader: &mut Reader<'_>, mut table: Table<'_>) -> Option<HealthCheck> {
    let mut check = HealthCheck::default();
    // Without `..`: what the core gains is missed here at compile time.
    let HealthCheck { kind, interval, timeout, healthy, unhealthy } = &mut check;
    let readers: [(_, Read); 3] = [("http", path), ("grpc", service), ("tcp", tcp)];
    let mut kinds = Vec::new();
    let mut given = 0;
    for (key, read) in readers {
        if let Some(item) = table.get(reader, key) {
            given += 1;
            kinds.extend(item.read(reader, read));
        }
    }
    if given != 1 {
        let expected = r#"expected one of http = "/path", grpc = "service" and tcp = true"#;
        reader.refuse(&table.site, expected);
    }
    table.set(reader, "interval", interval, value::duration);
    table.set(reader, "timeout", timeout, value::duration);
    for (key, slot) in [("healthy_threshold", healthy), ("unhealthy_threshold", unhealthy)] {
        table.set(reader, key, slot, |v| value::integer(v, 1, 1000).map(|n| n as u32));
    }
    table.finish(reader);
    *kind = kinds.pop()?;
    Some(check)
}

/// A path with its query, as it is sent.
fn path(value: &DeValue<'_>) -> Result<CheckKind, String> {
    let is_path = |text: &&str| {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        text.starts_with('/') && text.len() <= LONGEST && visible
    };
    let path = value.as_str().filter(is_path);
    let expected = r#"expected a path like "/healthz", without spaces"#;
    path.map(|path| CheckKind::Http(path.into())).ok_or_else(|| expected.into())
}

/// The name of a service; none: the server as a whole.
fn service(value: &DeValue<'_>) -> Result<CheckKind, String> {
    let service = value.as_str().filter(|text| text.len() <= LONGEST);
    let expected = r#"expected the name of a service, or "" for the server as a whole"#;
    service.map(|service| CheckKind::Grpc(service.into())).ok_or_else(|| expected.into())
}

fn tcp(value: &DeValue<'_>) -> Result<CheckKind, String> {
    match value::boolean(value) {
        Ok(true) => Ok(CheckKind::Tcp),
        _ => Err("expected true, or another kind of check".into()),
    }
}
