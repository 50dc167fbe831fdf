//! Mirrors: copies of a route's requests to another service, whose answers are discarded.

use alloc::sync::Arc;

use super::route::{Route, RouteTimeouts};
use crate::rng::Rng;
use crate::time::Duration;

/// Which of a route's requests are copied, and where to.
///
/// What a copy does changes nothing for its request: see `core/src/engine/mirror.rs`. It goes out
/// as the request does, `Host` and the route's changes included, as the Gateway API's
/// RequestMirror has it (Envoy adds `-shadow` to the host unless told otherwise).
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// The part of the requests that is copied, at random: 0 to 1.
    fraction: f64,
    /// What copies follow: to a service of their own, in a time of their own, without retries.
    route: Arc<Route>,
}

impl Mirror {
    /// How long a copy may take from the end of its request to the end of its response, unless the
    /// route says otherwise: nobody waits for it, but it holds a connection or a stream.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// Copies `fraction` of the requests to `service`, by
    /// [`Service::name`](crate::config::Service::name). `timeout`: from the end of the request to
    /// the end of the response; the service's own times hold as well.
    pub fn new(service: Arc<str>, fraction: f64, timeout: Duration) -> Self {
        let timeouts = RouteTimeouts { response: Some(timeout), ..RouteTimeouts::default() };
        Mirror { fraction, route: Arc::new(Route { service, timeouts, ..Route::default() }) }
    }

    /// Where the copies go.
    pub fn service(&self) -> &Arc<str> {
        &self.route.service
    }

    /// What a copy follows.
    pub(crate) fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// Is this request copied?
    pub(crate) fn strikes(&self, rng: &mut Rng) -> bool {
        rng.unit() < self.fraction
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Seed;

    #[test]
    fn a_fraction_is_that_of_the_requests() {
        for (fraction, range) in [(0.0, 0..=0), (0.01, 60..=140), (0.5, 4_800..=5_200)] {
            let mirror = Mirror::new("a".into(), fraction, Mirror::TIMEOUT);
            let mut rng = Rng::fork(Seed::from_number(7), 0);
            let copied = (0..10_000).filter(|_| mirror.strikes(&mut rng)).count();
            assert!(range.contains(&copied), "{fraction}: {copied}");
        }
        let all = Mirror::new("a".into(), 1.0, Mirror::TIMEOUT);
        let mut rng = Rng::fork(Seed::from_number(7), 0);
        assert!((0..10_000).all(|_| all.strikes(&mut rng)));
    }
}
