//! What a service of some standing is configured with: a route's retries and timeouts, and a breaker.

use selvedge_core::policy::breaker::SuccessRate;
use selvedge_core::policy::{BreakerConfig, Retry, RouteTimeouts};
use selvedge_core::time::Duration;

/// Retries that every request of these programs is eligible for, so that its body is kept.
pub(crate) fn retry() -> Retry {
    Retry {
        statuses: vec![(502, 504)],
        reset: true,
        refused: true,
        timeout: true,
        grpc: vec![14],
        methods: vec!["GET".into(), "POST".into()],
        limit: 2,
        per_try_timeout: Some(Duration::from_millis(300)),
        ..Retry::default()
    }
}

pub(crate) fn timeouts() -> RouteTimeouts {
    RouteTimeouts {
        request: Some(Duration::from_secs(2)),
        response: Some(Duration::from_secs(1)),
        idle: Some(Duration::from_secs(30)),
    }
}

pub(crate) fn breaker() -> BreakerConfig {
    let success_rate =
        Some(SuccessRate { min: 0.8, window: Duration::from_secs(10), min_requests: 20 });
    BreakerConfig { success_rate, ..BreakerConfig::default() }
}
