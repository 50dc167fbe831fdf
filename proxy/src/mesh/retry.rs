//! `retry` of a route and `retry_budget` of a service.

use std::time::Duration;

use selvedge_core::policy::{BudgetConfig, Retry};
use toml::de::DeValue;

use super::read::{Reader, Table};
use super::route::{method, number, range};
use super::value;

/// `retry`.
pub(super) fn read(reader: &mut Reader<'_>, mut table: Table<'_>) -> Retry {
    let mut retry = Retry::default();
    if let Some(item) = table.get(reader, "on") {
        let expected = r#"expected a list like ["gateway-error", "response-timeout", 429]"#;
        for item in item.array(reader, expected) {
            item.read(reader, |v| add_condition(&mut retry, v));
        }
    }
    if let Some(item) = table.get(reader, "grpc") {
        let items = item.array(reader, r#"expected a list like ["unavailable"]"#);
        retry.grpc = items.iter().filter_map(|item| item.read(reader, grpc_status)).collect();
    }
    if let Some(item) = table.get(reader, "methods") {
        let items = item.array(reader, r#"expected a list like ["GET", "PUT"]"#);
        retry.methods = items.iter().filter_map(|item| item.read(reader, method)).collect();
    }
    table.set(reader, "limit", &mut retry.limit, |v| value::integer(v, 1, 100).map(|n| n as u32));
    table.set(reader, "per_try_timeout", &mut retry.per_try_timeout, value::duration_or_none);
    table.set(reader, "max_body", &mut retry.max_body, bytes);
    table.set(reader, "report", &mut retry.report, value::boolean);
    let waits = (&mut retry.backoff_min, &mut retry.backoff_max);
    backoff(reader, &mut table, waits, value::duration_or_at_once);
    table.finish(reader);
    retry
}

/// `backoff`: the first wait and the longest.
pub(super) fn backoff(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    (min, max): (&mut Duration, &mut Duration),
    read: fn(&DeValue<'_>) -> Result<Duration, String>,
) {
    let Some(mut backoff) = table.table(reader, "backoff") else { return };
    backoff.set(reader, "min", min, read);
    let least = *min;
    backoff.set(reader, "max", max, |v| {
        let expected = || format!("expected at least backoff.min, which is {least:?}");
        let max = read(v)?;
        (max >= least).then_some(max).ok_or_else(expected)
    });
    *max = least.max(*max);
    backoff.finish(reader);
}

/// `retry_budget`.
pub(super) fn read_budget(reader: &mut Reader<'_>, mut table: Table<'_>) -> BudgetConfig {
    let mut budget = BudgetConfig::default();
    // Without `..`: what the core gains is missed here at compile time.
    let BudgetConfig { ratio, min_per_second, window } = &mut budget;
    // linkerd2-proxy's bounds.
    table.set(reader, "ratio", ratio, |v| number(v, 1000.0));
    table.set(reader, "min_per_second", min_per_second, |v| number(v, 1_000_000.0));
    table.set(reader, "window", window, |v| {
        let window = value::duration(v)?;
        let seconds = 1..=60;
        seconds
            .contains(&window.as_secs())
            .then_some(window)
            .ok_or_else(|| r#"expected a duration from "1s" to "60s""#.into())
    });
    table.finish(reader);
    budget
}

fn add_condition(retry: &mut Retry, value: &DeValue<'_>) -> Result<(), String> {
    let expected = || {
        r#"expected "5xx", "gateway-error", "reset", "connect-failure", "refused-stream", "response-timeout", a status or a range like "500-503""#
            .to_owned()
    };
    match value.as_str() {
        Some("5xx") => {
            retry.statuses.push((500, 599));
            retry.reset = true;
        }
        Some("gateway-error") => {
            retry.statuses.push((502, 504));
            retry.reset = true;
        }
        Some("reset") => retry.reset = true,
        Some("refused-stream") => retry.refused = true,
        Some("response-timeout") => retry.timeout = true,
        // What was never sent goes to another endpoint without being asked.
        Some("connect-failure") => {}
        _ => retry.statuses.push(range(value, 200, 599).map_err(|_| expected())?),
    }
    Ok(())
}

/// A gRPC status, by its name or number.
pub(super) fn grpc_status(value: &DeValue<'_>) -> Result<u8, String> {
    const NAMES: [&str; 16] = [
        "cancelled",
        "unknown",
        "invalid-argument",
        "deadline-exceeded",
        "not-found",
        "already-exists",
        "permission-denied",
        "resource-exhausted",
        "failed-precondition",
        "aborted",
        "out-of-range",
        "unimplemented",
        "internal",
        "unavailable",
        "data-loss",
        "unauthenticated",
    ];
    let named = value.as_str().and_then(|text| NAMES.iter().position(|name| *name == text));
    match named {
        Some(index) => Ok(index as u8 + 1),
        None => value::integer(value, 1, 16).map(|n| n as u8).map_err(|_| {
            r#"expected a gRPC status like "unavailable", or its number from 1 to 16"#.into()
        }),
    }
}

/// Bytes: an integer, or one with a unit.
fn bytes(value: &DeValue<'_>) -> Result<usize, String> {
    const MOST: u64 = 1 << 30;
    let expected = || r#"expected bytes like 65536, "64KiB" or "1MiB", at most 1 GiB"#.to_owned();
    let Some(text) = value.as_str() else {
        return value::integer(value, 0, MOST).map(|n| n as usize).map_err(|_| expected());
    };
    let (digits, unit) = match text {
        _ if text.ends_with("KiB") => (text.trim_end_matches("KiB"), 1 << 10),
        _ if text.ends_with("MiB") => (text.trim_end_matches("MiB"), 1 << 20),
        _ => return Err(expected()),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let count = digits.parse().ok().filter(|_| is_number);
    let bytes = count.and_then(|n: u64| n.checked_mul(unit)).filter(|&n| n <= MOST);
    bytes.map(|n| n as usize).ok_or_else(expected)
}
