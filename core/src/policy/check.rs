//! Active health checks: what is asked, and what the answers make of an endpoint.

use alloc::boxed::Box;
use core::fmt;

use crate::error::Reason;
use crate::time::Duration;

/// How the endpoints of a service are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// From the end of a check to the next one, and up to a quarter less or more: proxies do not
    /// check in step.
    pub interval: Duration,
    /// How long a check may take, the connect included.
    pub timeout: Duration,
    /// So many good checks in a row make a bad endpoint a good one …
    pub healthy: u32,
    /// … and so many bad ones the other way. The very first check decides alone.
    pub unhealthy: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// `GET` of this path: a status from 200 to 299.
    Http(Box<str>),
    /// `grpc.health.v1.Health/Check` of this service, which may be empty: SERVING.
    Grpc(Box<str>),
    /// A connect; for a mesh endpoint with its handshake.
    Tcp,
}

impl Default for HealthCheck {
    fn default() -> Self {
        HealthCheck {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            // HAProxy's rise and fall.
            healthy: 2,
            unhealthy: 3,
        }
    }
}

impl HealthCheck {
    /// From the end of a check to the next one. `unit`: a random number from 0 to 1.
    pub fn wait(&self, unit: f64) -> Duration {
        self.interval.mul_f64(0.75 + unit / 2.0)
    }

    /// Until the first check of an endpoint, which is not used before: soon, but proxies that learn
    /// of it at once do not all ask it at once.
    pub fn first_wait(&self, unit: f64) -> Duration {
        self.interval.min(Duration::from_secs(1)).mul_f64(unit)
    }
}

/// Why a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// There is no connection.
    Connect(Reason),
    /// There was no answer in time.
    Timeout,
    /// The connection ended without an answer, or with none that is one.
    NoAnswer,
    /// It was answered with another status.
    Status(u16),
    /// It was answered with another gRPC status.
    Grpc(u16),
    /// The endpoint says that it does not serve.
    NotServing,
}

impl fmt::Display for CheckFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckFailure::Connect(reason) => reason.fmt(f),
            CheckFailure::Timeout => f.write_str("no answer in time"),
            CheckFailure::NoAnswer => f.write_str("no answer"),
            CheckFailure::Status(status) => write!(f, "status {status}"),
            CheckFailure::Grpc(status) => write!(f, "gRPC status {status}"),
            CheckFailure::NotServing => f.write_str("it does not serve"),
        }
    }
}

/// What the checks of one endpoint say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// `None`: there was none yet.
    passing: Option<bool>,
    /// How many in a row have said the contrary.
    contrary: u32,
}

impl Checks {
    /// Of an endpoint that was in use when checks began.
    pub fn passing() -> Self {
        Checks { passing: Some(true), contrary: 0 }
    }

    /// May it be used? Not before its first check.
    pub fn passes(&self) -> bool {
        self.passing == Some(true)
    }

    /// Was it never checked?
    pub fn is_new(&self) -> bool {
        self.passing.is_none()
    }

    /// A check is over. Returns whether [`Checks::passes`] says something else now.
    pub fn record(&mut self, config: &HealthCheck, passed: bool) -> bool {
        let passes = self.passes();
        let enough = match self.passing {
            None => 1,
            Some(true) => config.unhealthy,
            Some(false) => config.healthy,
        };
        let is_contrary = self.passing != Some(passed);
        self.contrary = if is_contrary { self.contrary + 1 } else { 0 };
        if self.contrary >= enough && is_contrary {
            *self = Checks { passing: Some(passed), contrary: 0 };
        }
        self.passes() != passes
    }
}

/// The body of a gRPC check: the message `HealthCheckRequest` with its service, in its frame.
pub(crate) fn encode_request(service: &str) -> Box<[u8]> {
    let mut message = alloc::vec::Vec::new();
    if !service.is_empty() {
        // Field 1, a string. A mesh file bounds it to less than two bytes of length can say.
        message.push(0x0a);
        let mut len = service.len();
        while len >= 0x80 {
            message.push(len as u8 | 0x80);
            len >>= 7;
        }
        message.push(len as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = alloc::vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// Does this body hold a `HealthCheckResponse` that says SERVING? Its one field is a varint.
pub(crate) fn is_serving(body: &[u8]) -> bool {
    const SERVING: u8 = 1;
    let [0, a, b, c, d, message @ ..] = body else { return false };
    let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
    message.get(..len).is_some_and(|message| message == [0x08, SERVING])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_decides_and_later_ones_have_to_agree() {
        let config = HealthCheck::default();
        for first in [true, false] {
            let mut checks = Checks::default();
            assert!(!checks.passes() && checks.is_new());
            assert_eq!(checks.record(&config, first), first);
            assert_eq!(checks.passes(), first);
        }
        let mut checks = Checks::passing();
        // One good check between them, and they are not three in a row.
        for (passed, changes) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, false),
            (false, false),
            (true, false),
            (true, true),
        ] {
            assert_eq!(checks.record(&config, passed), changes);
        }
        assert!(checks.passes());
    }

    #[test]
    fn checks_are_spread() {
        let config = HealthCheck::default();
        let waits = [0.0, 1.0].map(|unit| config.wait(unit).as_millis());
        assert_eq!(waits, [3750, 6250]);
        assert!(config.first_wait(1.0) <= Duration::from_secs(1));
    }

    #[test]
    fn messages_are_those_of_protobuf() {
        assert_eq!(*encode_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(*encode_request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = "x".repeat(200);
        assert_eq!(encode_request(&long)[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert!(is_serving(&[0, 0, 0, 0, 2, 8, 1]));
        for body in [
            &[][..],
            &[0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 2, 8, 2],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
        ] {
            assert!(!is_serving(body), "{body:?}");
        }
    }
}
