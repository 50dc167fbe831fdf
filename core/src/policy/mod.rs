//! What is decided about a request: routes, the filters they apply, traffic splits, affinity, retries
//! and their budget; and which endpoints are not asked because they fail.
//!
//! All of it is data that an embedder makes and checks, and decisions without I/O. `proxy/POLICY.md`
//! lists every policy: its keys in a mesh file, defaults, behaviour, counters and tests.

pub mod affinity;
pub mod breaker;
pub mod budget;
pub mod check;
pub mod concurrency;
pub mod filter;
pub mod gradient;
pub mod mirror;
pub mod pattern;
pub mod rate;
pub mod retry;
pub mod route;
pub mod split;
pub(crate) mod wishes;

pub use affinity::{Affinity, Balancing, Key};
pub use breaker::BreakerConfig;
pub use budget::BudgetConfig;
pub use check::{CheckKind, HealthCheck};
pub use concurrency::Concurrency;
pub use filter::{Changes, Failure, Fixed, HeaderChanges, NewPath, Redirect};
pub use mirror::Mirror;
pub use pattern::Pattern;
pub use rate::RateLimit;
pub use retry::Retry;
pub use route::{
    FieldMatch, GrpcMatch, HostMatch, Match, PathMatch, Route, RouteTable, RouteTimeouts,
    ValueMatch,
};
pub use split::{Backend, Split};
