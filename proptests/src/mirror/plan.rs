//! What clients ask and what their app answers, and when: drawn before anything happens, so that it
//! cannot depend on a mirror.

use std::time::Duration;

use selvedge_core::config::ServiceTimeouts;
use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerKind, Protocol, Service, Target, Timeouts,
};
use selvedge_core::limits::Limits;
use selvedge_core::policy::{Mirror, Retry, Route, RouteTable};

use super::{APP, MIRROR, OUTBOUND};
use crate::choose::{Choose, pick};

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    Length(usize),
    /// With trailers, or without.
    Chunked(usize, bool),
}

impl Body {
    pub(super) fn size(self) -> usize {
        match self {
            Body::None => 0,
            Body::Length(size) | Body::Chunked(size, _) => size,
        }
    }

    fn draw(choose: &mut dyn Choose, largest: usize) -> Self {
        let most = pick(choose, &[10, 3_000, 40_000, largest]);
        let size = choose.below(most);
        match choose.below(3) {
            0 => Body::None,
            1 => Body::Length(size),
            _ => Body::Chunked(size, choose.flip()),
        }
    }

    /// The field that says so in HTTP/1.
    pub(super) fn field(self) -> String {
        match self {
            Body::None => String::new(),
            Body::Length(size) => format!("Content-Length: {size}\r\n"),
            Body::Chunked(..) => "Transfer-Encoding: chunked\r\n".into(),
        }
    }
}

/// What an app makes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// It answers the head, and does not wait for the rest.
    pub(super) early: bool,
    pub(super) after: Duration,
    pub(super) status: u16,
    pub(super) body: Body,
    /// It resets the connection, or stream, instead.
    pub(super) resets: bool,
}

/// A request and its time.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) client: usize,
    pub(super) at: Duration,
    pub(super) method: &'static str,
    pub(super) body: Body,
    /// How much of the body goes out how long after the head.
    pub(super) pieces: Vec<(Duration, usize)>,
    /// The client gives up then.
    pub(super) cancelled: Option<Duration>,
    pub(super) answer: Answer,
}

/// A socket takes nothing for a while, from then on for so long.
pub(super) type Pause = (Duration, Duration);

/// Everything that is not the mirror.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Does it speak HTTP/2? When does it not read?
    pub(super) clients: Vec<(bool, Pause)>,
    pub(super) app_pause: Pause,
    pub(super) requests: Vec<Request>,
    protocol: Protocol,
    timeout: Duration,
    retries: bool,
    /// So many copies at once.
    mirrors: usize,
}

fn millis(choose: &mut dyn Choose, most: usize) -> Duration {
    Duration::from_millis(choose.below(most) as u64)
}

fn pause(choose: &mut dyn Choose) -> Pause {
    let long = choose.one_in(4);
    (millis(choose, 300), if long { millis(choose, 400) } else { Duration::ZERO })
}

impl Plan {
    pub(super) fn draw(choose: &mut dyn Choose) -> Self {
        let clients: Vec<(bool, Pause)> =
            (0..choose.within(1, 3)).map(|_| (choose.flip(), pause(choose))).collect();
        let mut requests: Vec<Request> = (0..choose.within(1, 8))
            .map(|_| {
                let client = choose.below(clients.len());
                Request::draw(choose, client)
            })
            .collect();
        // On HTTP/1, one after the other.
        for (client, _) in clients.iter().enumerate().filter(|(_, (http2, _))| !http2) {
            let mut at = Duration::ZERO;
            for request in requests.iter_mut().filter(|request| request.client == client) {
                at += request.at;
                request.at = at;
                at += request.pieces.iter().map(|piece| piece.0).max().unwrap_or_default();
                at += Duration::from_millis(1);
            }
        }
        Plan {
            clients,
            app_pause: pause(choose),
            requests,
            protocol: pick(choose, &[Protocol::Auto, Protocol::Http1, Protocol::Http2]),
            timeout: Duration::from_millis(pick(choose, &[3_000, 150, 30])),
            retries: choose.one_in(3),
            mirrors: pick(choose, &[1_000, 1_000, 1]),
        }
    }

    /// The engine's configuration. `mirror`: what the mirror speaks, and which part it gets.
    pub(super) fn config(&self, mirror: Option<(Protocol, f64)>) -> Config {
        let service = |name: &str, addr, protocol, request| Service {
            name: name.into(),
            endpoints: vec![Endpoint {
                target: Target::Addr(addr),
                weight: 1,
                mesh: None,
                zone: None,
            }],
            protocol,
            timeouts: ServiceTimeouts { request, ..ServiceTimeouts::default() },
            ..Service::default()
        };
        let retry = Retry {
            statuses: vec![(503, 503)],
            reset: true,
            backoff_min: Duration::ZERO,
            backoff_max: Duration::ZERO,
            ..Retry::default()
        };
        let route = Route {
            service: "web.example:80".into(),
            retry: self.retries.then_some(retry),
            mirror: mirror.map(|(_, fraction)| {
                Mirror::new("next.example:80".into(), fraction, Duration::from_secs(2))
            }),
            ..Route::default()
        };
        let speaks = mirror.map_or(Protocol::Auto, |(protocol, _)| protocol);
        Config {
            listeners: vec![Listener { addr: OUTBOUND, kind: ListenerKind::Outbound }],
            services: vec![
                service("web.example:80", APP, self.protocol, Some(self.timeout)),
                service("next.example:80", MIRROR, speaks, None),
            ],
            routes: RouteTable::new(vec![route]),
            limits: Limits { mirrors: self.mirrors, ..Limits::default() },
            // A mirror that fails has a backoff, too, whose jitter may leave another to others: below a
            // millisecond nobody sees that.
            timeouts: Timeouts {
                backoff_min: Duration::from_millis(1),
                backoff_max: Duration::from_millis(1),
                ..Timeouts::default()
            },
            ..Config::default()
        }
    }
}

impl Request {
    fn draw(choose: &mut dyn Choose, client: usize) -> Self {
        let body = Body::draw(choose, 300_000);
        let mut pieces = Vec::new();
        let (mut left, mut at) = (body.size(), Duration::ZERO);
        while left > 0 {
            let most = pick(choose, &[300_000, 30_000, 2_000]);
            let n = choose.within(1, most).min(left);
            let n = if pieces.len() > 20 { left } else { n };
            pieces.push((at, n));
            at += millis(choose, 20);
            left -= n;
        }
        Request {
            client,
            at: millis(choose, 200),
            method: match body {
                Body::None => pick(choose, &["GET", "DELETE"]),
                _ => pick(choose, &["PUT", "POST"]),
            },
            body,
            pieces,
            cancelled: choose.one_in(6).then(|| millis(choose, 100)),
            answer: Answer {
                early: choose.one_in(6),
                after: millis(choose, 60),
                status: pick(choose, &[200, 200, 200, 404, 500, 503]),
                body: Body::draw(choose, 200_000),
                resets: choose.one_in(10),
            },
        }
    }
}
