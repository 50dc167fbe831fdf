//! Policies of outbound engines: what they are, what may come of them, and what came.

use std::collections::BTreeMap;
use std::time::Duration;

use selvedge_core::balance::LoadBound;
use selvedge_core::config::Service;
use selvedge_core::policy::affinity::Affinity;
use selvedge_core::policy::{
    Backend, BudgetConfig, Failure, Fixed, Match, Redirect, Retry, Route, RouteTimeouts, Split,
};
use selvedge_core::time::Time;

use super::balancing::key_of;
use super::fault::Fault;
use super::invariant::{Check, Checks, Invariant};
use super::likely::is_likely;
use super::mix::{LIMITS, Mix, Theme, UNSHAKEN};
use super::model::Sent;
use crate::choose::{Choose, pick};
use crate::traffic::request::{Request, is_idempotent};

/// Where redirects lead.
const ELSEWHERE: &str = "elsewhere.example";
/// What an injected failure says.
const INJECTED: &str = "injected by a route";

/// Draws the routes of the first three services, and the budgets of these.
pub(super) fn routes(
    choose: &mut dyn Choose,
    mix: &Mix,
    services: &mut [Service],
    faults: &mut Vec<Fault>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    for index in 0..3 {
        let service = services[index].name.clone();
        let mut route = Route { service: service.clone(), ..Route::default() };
        let mut once = |fault, choose: &mut dyn Choose| {
            let hit = mix.draws_once(choose, fault);
            faults.extend(hit.then_some(fault));
            hit
        };
        let injects = once(Fault::Injected, choose);
        if injects {
            // Of some methods; of the others nothing is said, or another route says it.
            let methods = ["DELETE", "BREW"].map(Box::from).into();
            let matches = Match { methods, ..Match::default() };
            routes.push(Route { fixed: Some(fixed(choose)), matches, ..route.clone() });
        }
        if once(Fault::Retries, choose) {
            let tries = once(Fault::TryTimeouts, choose);
            route.retry = Some(retry(choose, tries));
            services[index].retry_budget = budget(choose);
        }
        if index < 2 && once(Fault::Splits, choose) {
            let other = services[1 - index].name.clone();
            let [mine, theirs] = pick(choose, &[[9, 1], [1, 9], [1, 1], [0, 1], [1, 0]]);
            route.split = Split::Weighted(vec![
                Backend { service, weight: mine },
                Backend { service: other, weight: theirs },
            ]);
        }
        if mix.has(Fault::ShortTimeouts) {
            route.timeouts = timeouts(choose);
        }
        let default = Route { service: route.service.clone(), ..Route::default() };
        if route != default || injects && choose.flip() {
            routes.push(route);
        }
    }
    routes
}

fn fixed(choose: &mut dyn Choose) -> Fixed {
    if choose.flip() {
        let status = pick(choose, &[302, 308]);
        let host = Some(ELSEWHERE.into());
        return Fixed::Redirect(Redirect { status, scheme: None, host, port: None, path: None });
    }
    let (status, ratio) = (pick(choose, &[503, 418]), pick(choose, &[1.0, 0.5, 0.0]));
    Fixed::Failure(Failure { status, grpc: None, message: INJECTED.into(), ratio })
}

fn retry(choose: &mut dyn Choose, tries: bool) -> Retry {
    let mut retry = Retry {
        statuses: pick::<&[(u16, u16)]>(choose, &[&[(500, 599)], &[(503, 503)], &[]]).into(),
        reset: choose.flip(),
        refused: choose.flip(),
        timeout: choose.flip(),
        limit: pick(choose, &[1, 2, 3]),
        max_body: pick(choose, &[64 * 1024, 300, 0]),
        ..Retry::default()
    };
    if choose.one_in(3) {
        retry.methods.push("POST".into());
    }
    if tries {
        let limits = [100, 400, 1500].map(Duration::from_millis);
        retry.per_try_timeout = Some(pick(choose, &limits));
    }
    retry
}

fn budget(choose: &mut dyn Choose) -> BudgetConfig {
    let window = Duration::from_secs(pick(choose, &[10, 1]));
    // Of a whole window.
    let floor = pick(choose, &[100.0, 1.0, 3.0, 0.0]);
    let ratio = pick(choose, &[0.2, 0.0, 1.0]);
    BudgetConfig { ratio, min_per_second: floor / window.as_secs_f64(), window }
}

fn timeouts(choose: &mut dyn Choose) -> RouteTimeouts {
    let millis = |n| Some(Duration::from_millis(n));
    RouteTimeouts {
        request: pick(choose, &[None, millis(700), millis(2000)]),
        response: pick(choose, &[None, millis(1000)]),
        idle: pick(choose, &[None, millis(3000)]),
    }
}

/// A route, and what it has come to.
#[derive(Debug)]
pub(super) struct RouteModel {
    pub(super) route: Route,
    /// What its requests may reach, each with its weight: services as bits of their apps.
    pub(super) backends: Vec<(u64, u32)>,
    /// First attempts without a key that came to each.
    came: Vec<u32>,
    /// What those with a key go by, and which of the services each key went to.
    sticky: Option<Affinity>,
    kept: BTreeMap<u32, usize>,
    /// The budget of its service.
    budget: BudgetConfig,
    /// Requests that it is for.
    asked: u32,
    /// What apps got beyond the first of each.
    again: u32,
}

impl RouteModel {
    /// `parent`: the service whose requests it is for.
    pub(super) fn new(route: Route, backends: Vec<(u64, u32)>, parent: &Service) -> Self {
        let (came, kept) = (vec![0; backends.len()], BTreeMap::new());
        let (sticky, budget) = (parent.balancing.sticky.clone(), parent.retry_budget);
        RouteModel { route, backends, came, sticky, kept, budget, asked: 0, again: 0 }
    }

    /// Is it for this request? The one with methods comes first.
    pub(super) fn is_for(&self, request: &Request) -> bool {
        let methods = &self.route.matches.methods;
        self.concerns(request)
            && (methods.is_empty() || methods.iter().any(|method| **method == *request.method))
    }

    /// Has a request for its service another route, or none at all?
    pub(super) fn concerns(&self, request: &Request) -> bool {
        request.authority.as_deref() == Some(&*self.route.service)
    }

    /// The apps of its services, of those without a share too.
    pub(super) fn apps(&self) -> u64 {
        self.backends.iter().fold(0, |apps, backend| apps | backend.0)
    }

    pub(super) fn ask(&mut self) {
        self.asked += 1;
    }

    /// How often a request may reach apps, where each of `hops` engines may send one again whose
    /// connection was dead.
    pub(super) fn most_attempts(&self, method: &str, hops: u32) -> u32 {
        let idempotent = is_idempotent(method);
        match &self.route.retry {
            Some(retry) if retry.methods.iter().any(|allowed| **allowed == *method) => {
                if idempotent { (2 + retry.limit) << (hops - 1) } else { 1 + retry.limit }
            }
            _ if idempotent => 1 << hops,
            _ => 1,
        }
    }

    /// Retries that its budget allows until `now`: all of every window that has begun.
    fn allowed(&self, now: Time) -> f64 {
        let window = self.budget.window.as_secs_f64();
        let windows = (now.saturating_since(Time::ZERO).as_secs_f64() / window).floor() + 1.0;
        let floor = self.budget.min_per_second * window;
        self.budget.ratio * f64::from(self.asked) + floor * windows
    }

    /// An engine, one of so many workers, says that it tries a request again, as it did so often in the window that ends now,
    /// in which so many were sent for the first time.
    pub(super) fn check_retry(
        &self,
        checks: &mut Checks,
        workers: u32,
        [count, firsts]: [usize; 2],
        nth: u32,
        now: Time,
    ) -> Check {
        let retry = self.route.retry.as_ref();
        checks.that(Invariant::Budget, retry.is_some_and(|retry| nth <= retry.limit), || {
            format!("retry {nth} on the route of {}, which allows {retry:?}", self.route.service)
        })?;
        let floor = self.budget.min_per_second * self.window().as_secs_f64() / f64::from(workers);
        let allowed = self.budget.ratio.mul_add(firsts as f64, floor);
        checks.that(Invariant::Budget, count as f64 <= allowed + 1e-6, || {
            let service = &self.route.service;
            format!("{count} retries for {service} in the window until {now:?}: {allowed} allowed")
        })
    }

    /// What its budget is counted over.
    pub(super) fn window(&self) -> Duration {
        self.budget.window
    }

    /// A request reached `app`; it is `settled` who can be reached, and all its services are `open`.
    #[expect(clippy::too_many_arguments, reason = "what a request is, and when it came")]
    pub(super) fn came(
        &mut self,
        checks: &mut Checks,
        mix: &Mix,
        sent: &Sent,
        app: u16,
        [settled, open]: [bool; 2],
        now: Time,
        proxies: u32,
    ) -> Check {
        let attempts = sent.attempts;
        let goes_on = match &self.route.fixed {
            Some(Fixed::Redirect(_)) => false,
            Some(Fixed::Failure(failure)) => failure.ratio < 1.0,
            None => true,
        };
        checks.that(Invariant::Routed, goes_on, || {
            format!("app {app} gets what its route answers: {:?}", self.route.fixed)
        })?;
        let shared = self.backends.iter().any(|backend| backend.0 >> app & 1 == 1 && backend.1 > 0);
        checks.that(Invariant::Routed, shared || mix.redirects, || {
            format!("app {app} gets what is shared out by {:?}", self.backends)
        })?;
        if !mix.has_only(UNSHAKEN) {
            return Ok(());
        }
        if attempts > 1 {
            // Nothing but policy sends anything again here; each proxy has a budget of its own.
            self.again += 1;
            let allowed = self.allowed(now) * f64::from(proxies);
            let again = self.again;
            return checks.that(Invariant::Budget, f64::from(again) <= allowed + 1e-6, || {
                format!("apps got {again} more for {}: {allowed} allowed", self.route.service)
            });
        }
        let Some(at) = self.backends.iter().position(|backend| backend.0 >> app & 1 == 1) else {
            return Ok(());
        };
        if mix.has_any(LIMITS) || !open || !self.is_shared() {
            return Ok(());
        }
        let Some((sticky, key)) =
            self.sticky.as_ref().and_then(|sticky| Some((sticky, key_of(sticky, sent)?)))
        else {
            self.came[at] += 1;
            return Ok(());
        };
        if sticky.load_bound != LoadBound::NONE || !settled {
            return Ok(());
        }
        let was = *self.kept.entry(key).or_insert(at);
        checks.that(Invariant::Balanced, was == at, || {
            format!("key {key} of {} goes to service {at}, and was at {was}", self.route.service)
        })
    }

    /// Are its requests shared out over services?
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.route.split, Split::None)
    }

    /// The services that have a share of its requests.
    pub(super) fn shared_out(&self) -> impl Iterator<Item = &str> {
        let all = self.route.split.backends().iter();
        all.filter(|backend| backend.weight > 0).map(|backend| &*backend.service)
    }

    /// What came of all requests is what the weights say.
    pub(super) fn check_end(&self, checks: &mut Checks) -> Check {
        let all: u32 = self.backends.iter().map(|backend| backend.1).sum();
        let came: u32 = self.came.iter().sum();
        for (&here, &(_, weight)) in self.came.iter().zip(&self.backends) {
            let expected = f64::from(came) * f64::from(weight) / f64::from(all.max(1));
            checks.that(Invariant::Routed, is_likely(here, came, [expected; 2]), || {
                format!("{:?} of {came} requests went by shares of {:?}", self.came, self.backends)
            })?;
        }
        Ok(())
    }

    /// Is this answer of the proxy what the route says? `error`: what it says, `None`: nothing.
    pub(super) fn answers(
        &self,
        request: &Request,
        status: u16,
        error: Option<&[u8]>,
    ) -> Option<bool> {
        let grpc = request.fields.iter().any(|(name, value)| {
            name.eq_ignore_ascii_case("content-type") && value.starts_with(b"application/grpc")
        });
        match (&self.route.fixed, error) {
            (Some(Fixed::Redirect(redirect)), None) => Some(status == redirect.status),
            (Some(Fixed::Failure(failure)), Some(error)) if error == INJECTED.as_bytes() => {
                // A call is told in a field.
                let expected = if grpc { 200 } else { failure.status };
                Some(failure.ratio > 0.0 && status == expected)
            }
            (_, Some(error)) if error == INJECTED.as_bytes() => Some(false),
            _ => None,
        }
    }

    /// Where it sends a request, as far as that is known.
    pub(super) fn location(request: &Request) -> Option<String> {
        let path = &request.target[request.target.find("/r/")?..];
        Some(format!("http://{ELSEWHERE}{path}"))
    }
}

fn some_time(choose: &mut dyn Choose) -> Duration {
    Duration::from_millis(50 + choose.below(2000) as u64)
}

/// How an app fails, apart from what else goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Failing {
    /// It does not.
    #[default]
    No,
    /// It answers nothing else.
    Always,
    /// Some of its answers.
    OneIn(u16),
    /// On and off, for so long each.
    Flaps(Duration),
    /// It takes longer and longer, and then fails. So long until then.
    Dies(Duration),
    /// Until then: whoever has waited comes at once.
    Recovers(Duration),
}

impl Failing {
    pub(super) fn draw(choose: &mut dyn Choose) -> Self {
        match choose.below(5) {
            0 => Failing::Always,
            1 => Failing::OneIn(pick(choose, &[2, 4, 10])),
            2 => Failing::Flaps(some_time(choose)),
            3 => Failing::Dies(some_time(choose)),
            _ => Failing::Recovers(some_time(choose)),
        }
    }

    /// How each of so many apps fails in a run about this.
    pub(super) fn themed(choose: &mut dyn Choose, theme: Theme, apps: usize) -> Vec<Self> {
        let bad = choose.below(apps);
        let at = some_time(choose);
        let fails = |index| match theme {
            Theme::Anything | Theme::Impatient => Failing::No,
            Theme::Outage => Failing::Always,
            Theme::OneBad if index != bad => Failing::No,
            Theme::OneBad => pick(choose, &[Failing::Always, Failing::OneIn(2)]),
            // One dies before the others, or alone.
            Theme::SlowDeath if choose.flip() => Failing::No,
            Theme::SlowDeath => Failing::Dies(some_time(choose)),
            Theme::Flapping => pick(choose, &[Failing::Flaps(at), Failing::No]),
            Theme::Herd => Failing::Recovers(at),
        };
        (0..apps).map(fails).collect()
    }

    /// Does this answer fail?
    pub(super) fn strikes(self, choose: &mut dyn Choose, now: Time) -> bool {
        let since = now.saturating_since(Time::ZERO);
        match self {
            Failing::No => false,
            Failing::Always => true,
            Failing::OneIn(n) => choose.one_in(usize::from(n)),
            Failing::Flaps(each) => (since.as_nanos() / each.as_nanos()) % 2 == 1,
            Failing::Dies(at) => since >= at,
            Failing::Recovers(at) => since < at,
        }
    }

    /// How long it thinks before it answers.
    pub(super) fn takes(self, now: Time) -> Option<Duration> {
        let since = now.saturating_since(Time::ZERO);
        matches!(self, Failing::Dies(at) if since < at).then_some(since / 2)
    }
}
