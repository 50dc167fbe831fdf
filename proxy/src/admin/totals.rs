//! The sum of what the workers counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_core::engine::Direction;
use selvedge_core::stats::{
    DetectStats, DirectionStats, EndpointSnapshot, GateSnapshot, Gauges, IdentitySnapshot,
    ServiceSnapshot, Snapshot,
};

/// The sum over all workers.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub directions: [DirectionStats; 2],
    /// By direction and name, which are labels: no pair may appear twice.
    pub services: BTreeMap<(Direction, Arc<str>), ServiceSnapshot>,
    /// By number.
    pub ports: BTreeMap<u16, GateSnapshot>,
    /// What all workers let through.
    pub gate: Option<GateSnapshot>,
    pub gauges: Gauges,
    /// Of the worker whose certificate ends first.
    pub identity: Option<IdentitySnapshot>,
}

impl Totals {
    pub(super) fn of(snapshots: Vec<Snapshot>) -> Self {
        let mut totals = Totals::default();
        let mut identities = Vec::new();
        for snapshot in snapshots {
            identities.extend(snapshot.identity);
            for (sum, part) in totals.directions.iter_mut().zip(&snapshot.directions) {
                add_direction(sum, part);
            }
            for service in snapshot.services {
                let key = (service.direction, service.name.clone());
                match totals.services.get_mut(&key) {
                    Some(sum) => add_service(sum, service),
                    None => drop(totals.services.insert(key, service)),
                }
            }
            match &mut totals.gate {
                Some(sum) => sum.merge(&snapshot.gate),
                none => *none = Some(snapshot.gate),
            }
            for port in snapshot.ports {
                let sum = totals.ports.entry(port.number);
                sum.and_modify(|sum| sum.merge(&port.gate)).or_insert(port.gate);
            }
            let Gauges { connections, accepted, exchanges, handshakes, buffered_bytes } =
                snapshot.gauges;
            totals.gauges.connections += connections;
            totals.gauges.accepted += accepted;
            totals.gauges.exchanges += exchanges;
            totals.gauges.handshakes += handshakes;
            totals.gauges.buffered_bytes += buffered_bytes;
        }
        totals.identity =
            identities.into_iter().min_by_key(|identity| (identity.certified, identity.expires_in));
        for service in totals.services.values_mut() {
            unite_endpoints(&mut service.endpoints);
        }
        totals
    }
}

fn add_direction(sum: &mut DirectionStats, part: &DirectionStats) {
    let DirectionStats {
        accepted,
        detect,
        hellos,
        tls,
        refused,
        requests,
        violations,
        trailers_dropped,
    } = part;
    sum.tls.merge(tls);
    sum.accepted.merge(accepted);
    let DetectStats { http1, http2, tls, opaque, timeout, skipped, duration } = detect;
    sum.detect.http1 += http1;
    sum.detect.http2 += http2;
    sum.detect.tls += tls;
    sum.detect.opaque += opaque;
    sum.detect.timeout += timeout;
    sum.detect.skipped += skipped;
    sum.detect.duration.merge(duration);
    sum.hellos.merge(hellos);
    for (sum, part) in sum.refused.iter_mut().zip(refused) {
        *sum += part;
    }
    sum.requests += requests;
    for (sum, part) in sum.violations.iter_mut().zip(violations) {
        *sum += part;
    }
    sum.trailers_dropped += trailers_dropped;
}

/// Adds what another worker knows about the same service.
fn add_service(sum: &mut ServiceSnapshot, part: ServiceSnapshot) {
    sum.stats.merge(&part.stats);
    sum.failfast |= part.failfast;
    sum.queued += part.queued;
    sum.gate.merge(&part.gate);
    sum.endpoints.extend(part.endpoints);
}

/// Makes one of all that have the same address: from several workers, or because two names led to
/// the same address.
fn unite_endpoints(endpoints: &mut Vec<EndpointSnapshot>) {
    endpoints.sort_by_key(|endpoint| endpoint.addr);
    endpoints.dedup_by(|part, sum| {
        if part.addr != sum.addr {
            return false;
        }
        // One that a worker holds to be down should be visible.
        sum.ready &= part.ready;
        sum.ejected |= part.ejected;
        sum.unhealthy |= part.unhealthy;
        sum.pending += part.pending;
        sum.connections += part.connections;
        sum.stats.merge(&part.stats);
        true
    });
}
