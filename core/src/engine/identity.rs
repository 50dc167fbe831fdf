//! Our own certificate: when it is asked for, and what hangs on there being a valid one.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Engine;
use super::contract::{Event, Output};
use super::mesh::Endpoint;
use crate::config::Config;
use crate::identity::{Due, Renewal, Update};
use crate::stats::IdentitySnapshot;
use crate::time::{Duration, Time, UnixTime};
use crate::tls::Provider;

/// What an engine knows of its own identity.
#[derive(Debug, Default)]
pub(super) struct Identity {
    /// What the wall clock showed, and when.
    clock: Option<(Time, UnixTime)>,
    /// Makes sessions with the last certificate that came.
    provider: Option<Arc<dyn Provider>>,
    renewal: Renewal,
    /// There is a certificate, and it is valid: as it was found when that could last change.
    certified: bool,
    /// When to look again.
    due: Option<Time>,
    certifications: u64,
    failures: u64,
}

impl Identity {
    /// When to look again at what there is.
    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// What the wall clock shows at `now`.
    fn wall(&self, now: Time) -> Option<UnixTime> {
        self.clock.map(|(at, wall)| wall + now.saturating_since(at))
    }
}

impl Engine {
    /// Is this proxy somebody? If not, nobody has to tell it the wall-clock time.
    pub fn has_identity(&self) -> bool {
        self.config.identity.is_some()
    }

    /// May this proxy be sent traffic? Not one that has an identity and no valid certificate for it.
    pub fn is_ready(&self) -> bool {
        self.config.identity.is_none() || self.identity.certified
    }

    /// Is there a valid certificate?
    pub(super) fn is_certified(&self) -> bool {
        self.identity.certified
    }

    /// What sessions are made with now, and the time that certificates are judged by.
    pub(super) fn provider(&self) -> Option<(Arc<dyn Provider>, UnixTime)> {
        let provider = self.identity.provider.as_ref().filter(|_| self.identity.certified)?;
        Some((Arc::clone(provider), self.identity.wall(self.now)?))
    }

    /// What the wall clock shows, if anybody told.
    pub(super) fn wall(&self) -> Option<UnixTime> {
        self.identity.wall(self.now)
    }

    /// The wall clock was read.
    pub(super) fn wall_clock(&mut self, wall: UnixTime) {
        self.identity.clock = Some((self.now, wall));
        self.look_at_identity();
    }

    /// A certificate came, or none.
    pub(super) fn identity_arrived(&mut self, result: Result<Update, Arc<str>>) {
        let Some(own) = self.config.identity.as_ref() else { return };
        let error = match result {
            Ok(update) if update.name != own.name => {
                alloc::format!("certificate is for {}, not for {}", update.name, own.name).into()
            }
            Ok(update) => {
                // Without a clock it is taken as just made, and judged when there is one.
                let wall = self.identity.wall(self.now).unwrap_or(update.not_before);
                let renewal = &mut self.identity.renewal;
                if renewal.certified(wall, update.not_before, update.not_after) {
                    self.identity.provider = Some(update.provider);
                    self.identity.certifications += 1;
                    #[cfg(selvedge_canary)]
                    if canary!(RotationDrops) {
                        self.drop_sessions();
                    }
                    let renew_in = self.identity.renewal.due(self.now, wall) - self.now;
                    let not_after = update.not_after;
                    self.emit(Event::Certified { name: update.name, not_after, renew_in });
                    return self.look_at_identity();
                }
                Arc::from("certificate has expired already")
            }
            Err(error) => error,
        };
        let jitter = self.rng.unit();
        self.identity.failures += 1;
        let retry_in = self.identity.renewal.failed(self.now, jitter);
        self.emit(Event::CertifyFailed { error, retry_in });
        self.look_at_identity();
    }

    /// Breaks every session.
    #[cfg(selvedge_canary)]
    fn drop_sessions(&mut self) {
        let sealed = self.conns.iter().filter(|(_, conn)| conn.tls.is_some());
        let ids: Vec<_> = sealed.filter_map(|(index, _)| self.conns.id(index)).collect();
        for id in ids {
            self.failed(id, crate::error::IoError::Reset);
        }
    }

    /// Our name may have changed.
    pub(super) fn apply_identity(&mut self, old: &Config, new: &Config) {
        let name = |config: &Config| config.identity.as_ref().map(|own| own.name.clone());
        if name(old) != name(new) {
            // Another's certificate is of no use.
            let clock = self.identity.clock;
            let was = self.identity.certified;
            self.identity = Identity { clock, ..Identity::default() };
            if was {
                self.certified_changed();
            }
        }
        self.look_at_identity();
    }

    /// Asks for a certificate if it is time, and finds out whether there is a valid one.
    pub(super) fn look_at_identity(&mut self) {
        self.identity.due = None;
        let Some(own) = self.config.identity.as_ref() else { return };
        let (now, name) = (self.now, own.name.clone());
        let identity = &mut self.identity;
        let wall = identity.wall(now);
        let certified = wall.is_some_and(|wall| identity.renewal.is_valid(wall));
        let renewal = match identity.renewal.poll(now, wall.unwrap_or_default()) {
            Due::Now => {
                self.outputs.push_back(Output::Certify);
                now + Renewal::PATIENCE
            }
            Due::At(due) => due,
        };
        let change = wall.and_then(|wall| {
            let change = identity.renewal.next_change(wall)?;
            Some(now + change.saturating_since(wall))
        });
        identity.due = Some(change.map_or(renewal, |change| change.min(renewal)));
        if core::mem::replace(&mut identity.certified, certified) != certified {
            if !certified {
                self.emit(Event::Uncertified { name });
            }
            self.certified_changed();
        }
    }

    /// Endpoints that only a certified proxy can reach may be chosen now, or no longer.
    fn certified_changed(&mut self) {
        let certified = self.identity.certified;
        let meshed = |endpoint: &Endpoint| endpoint.mesh.is_some() && !endpoint.removed;
        let all = self.mesh.endpoints.iter().filter(|(_, endpoint)| meshed(endpoint));
        let all: Vec<u32> = all.map(|(index, _)| index as u32).collect();
        let mut services = Vec::new();
        for index in all {
            let Some(endpoint) = self.mesh.endpoints.get(index as usize) else { continue };
            let service = endpoint.service;
            self.stand(index);
            self.serve_waiting(index);
            if services.last() != Some(&service) {
                services.push(service);
            }
        }
        for service in services {
            if certified {
                self.service_changed(service);
            } else {
                self.arm_failfast(service);
            }
        }
    }

    /// Our certificate as a value.
    pub(super) fn identity_snapshot(&self) -> Option<IdentitySnapshot> {
        let own = self.config.identity.as_ref()?;
        let identity = &self.identity;
        let wall = identity.wall(self.now);
        let validity = identity.renewal.validity();
        let left = validity.zip(wall).map(|((_, to), wall)| to.saturating_since(wall));
        let renewal = identity.renewal.due(self.now, wall.unwrap_or_default());
        Some(IdentitySnapshot {
            name: own.name.clone(),
            certified: identity.certified,
            validity,
            expires_in: left.unwrap_or(Duration::ZERO),
            renews_in: renewal - self.now,
            certifications: identity.certifications,
            failures: identity.failures,
        })
    }
}
