//! `breaker` and `panic` of a service.

use selvedge_core::policy::BreakerConfig;
use selvedge_core::policy::breaker::SuccessRate;

use super::read::{Reader, Table};
use super::retry::{backoff, grpc_status};
use super::route::number;
use super::value;

/// `breaker`.
pub(super) fn read(reader: &mut Reader<'_>, mut table: Table<'_>) -> BreakerConfig {
    let mut breaker = BreakerConfig::default();
    // Without `..`: what the core gains is missed here at compile time.
    let BreakerConfig { consecutive, success_rate, backoff_min, backoff_max, max_ejected, grpc } =
        &mut breaker;
    *success_rate = table.table(reader, "success_rate").map(|table| read_rate(reader, table));
    let rated = success_rate.is_some();
    table.set(reader, "consecutive", consecutive, |v| match value::integer(v, 0, 1_000_000) {
        Ok(0) if !rated => Err("expected more than 0, where there is no success_rate".into()),
        read => read.map(|n| n as u32),
    });
    backoff(reader, &mut table, (backoff_min, backoff_max), value::duration);
    table.set(reader, "max_ejected", max_ejected, share);
    if let Some(item) = table.get(reader, "grpc") {
        let items = item.array(reader, r#"expected a list like ["unavailable"]"#);
        *grpc = items.iter().filter_map(|item| item.read(reader, grpc_status)).collect();
    }
    table.finish(reader);
    breaker
}

fn read_rate(reader: &mut Reader<'_>, mut table: Table<'_>) -> SuccessRate {
    let mut rate = SuccessRate::default();
    let SuccessRate { min, window, min_requests } = &mut rate;
    table.set(reader, "min", min, share);
    table.set(reader, "window", window, value::duration);
    // linkerd2-proxy's bound.
    table.set(reader, "min_requests", min_requests, |v| {
        value::integer(v, 1, 1_000_000).map(|n| n as u32)
    });
    table.finish(reader);
    rate
}

/// A part of a whole.
pub(super) fn share(value: &toml::de::DeValue<'_>) -> Result<f64, String> {
    number(value, 1.0)
}
