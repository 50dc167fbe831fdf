//! Name resolution with the system's configuration.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::Resolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::RuntimeProvider;
use selvedge_core::engine::{Input, QueryId};
use selvedge_core::error::DnsError;
use tracing::warn;

use crate::Runtime;
use crate::background::Runner;
use crate::inbox::{Inbox, Message};

/// The files that decide how names are resolved.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Addresses and how long they are good for.
type Answer = Result<(Vec<IpAddr>, Duration), DnsError>;

/// Answers [`Output::Resolve`](selvedge_core::engine::Output::Resolve). Costs nothing until the
/// first name.
pub(crate) struct Names<R: Runtime> {
    inbox: Arc<Inbox>,
    resolver: Option<Resolver<R::Dns>>,
    /// When [`FILES`] were written that `resolver` was made from.
    stamp: [Option<SystemTime>; 2],
    lookups: Runner,
}

impl<R: Runtime> Names<R> {
    /// Takes its index on the ready list.
    pub(crate) fn new(inbox: &Arc<Inbox>, index: u32) -> Self {
        Names {
            inbox: Arc::clone(inbox),
            resolver: None,
            stamp: [None; 2],
            lookups: Runner::new(inbox, index),
        }
    }

    /// Goes on with what has become ready.
    pub(crate) fn visit(&mut self) {
        self.lookups.visit();
    }

    /// Looks `name` up; the answer comes as a message.
    pub(crate) fn resolve(&mut self, query: QueryId, name: Arc<str>) {
        self.refresh();
        let resolver = self.resolver.clone();
        let inbox = Arc::clone(&self.inbox);
        self.lookups.background.spawn(async move {
            let result = match resolver {
                Some(resolver) => look_up(&resolver, &name).await,
                None => Err(DnsError::Failed),
            };
            inbox.send(Message::Input(Input::Resolved { query, result }));
        });
    }

    /// Reads the system's configuration when it is new.
    fn refresh(&mut self) {
        let stamp = FILES.map(|file| fs::metadata(file).and_then(|meta| meta.modified()).ok());
        if self.resolver.is_some() && stamp == self.stamp {
            return;
        }
        self.stamp = stamp;
        let dns = || R::dns(&self.lookups.background);
        let mut builder = Resolver::builder(dns()).unwrap_or_else(|error| {
            warn!(%error, "cannot use {}; asking a name server on this machine", FILES[0]);
            // As the C library does.
            let local = NameServerConfig::udp_and_tcp(IpAddr::from([127, 0, 0, 1]));
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![local]);
            Resolver::builder_with_config(config, dns())
        });
        set_options(builder.options_mut());
        self.resolver =
            builder.build().inspect_err(|error| warn!(%error, "cannot resolve names")).ok();
    }
}

fn set_options(options: &mut ResolverOpts) {
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    // The core asks again when an answer expires, and wants a new one then.
    options.cache_size = 0;
}

async fn look_up<P: RuntimeProvider>(resolver: &Resolver<P>, name: &str) -> Answer {
    match resolver.lookup_ip(name).await {
        Ok(answer) => {
            let mut addrs: Vec<IpAddr> = Vec::new();
            for addr in answer.iter() {
                if !addrs.contains(&addr) {
                    addrs.push(addr);
                }
            }
            let ttl = answer.valid_until().saturating_duration_since(Instant::now());
            Ok((addrs, ttl))
        }
        Err(error) if error.is_no_records_found() => Err(DnsError::NotFound),
        Err(_) => Err(DnsError::Failed),
    }
}

#[cfg(test)]
mod tests;
