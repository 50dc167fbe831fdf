//! What of a changed mesh file takes effect while running, and what waits for a restart.

use std::sync::Arc;

use selvedge_core::config::{Config, ListenerKind, Service};

use super::Mesh;

/// A changed mesh file, made to fit the sockets that are open.
#[derive(Debug, PartialEq)]
pub struct Reload {
    /// What the engines are told: the new file with the listeners as they are.
    pub config: Config,
    /// What in the new file needs a restart, one sentence each.
    pub needs_restart: Vec<String>,
}

impl Mesh {
    /// Fits `next` to a proxy that was started from `self` and now runs `current`.
    pub fn reload(&self, current: &Config, next: Mesh) -> Reload {
        let mut needs_restart = self.restart_only(&next);
        let mut config = next.config;
        let kept = |name: &Arc<str>| current.services.iter().find(|s| s.name == *name);
        let is_open = |name: &Arc<str>| {
            self.config
                .listeners
                .iter()
                .any(|open| open.kind == ListenerKind::Forward(name.clone()))
        };
        for listener in &config.listeners {
            if let ListenerKind::Forward(name) = &listener.kind
                && !is_open(name)
            {
                needs_restart.push(format!("tcp.listen: {} is new", listener.addr));
                config.services.retain(|service| service.name != *name);
            }
        }
        for open in &self.config.listeners {
            if let ListenerKind::Forward(name) = &open.kind
                && !config.services.iter().any(|service| service.name == *name)
            {
                needs_restart.push(format!("tcp.listen: {} is gone", open.addr));
                // Its socket stays open, so its connections still need somewhere to go.
                let service: Option<&Service> = kept(name);
                config.services.extend(service.cloned());
            }
        }
        config.listeners.clone_from(&current.listeners);
        config.own.clone_from(&current.own);
        config.workers = current.workers;
        Reload { config, needs_restart }
    }

    /// Names the keys under `[proxy]` that only a start reads.
    fn restart_only(&self, next: &Mesh) -> Vec<String> {
        let mut changed = Vec::new();
        let mut compare = |key: &str, old: String, new: String| {
            if old != new {
                changed.push(format!("proxy.{key}: {old} became {new}"));
            }
        };
        for (index, key) in ["outbound", "inbound"].into_iter().enumerate() {
            let [old, new] = [self, next].map(|mesh| mesh.config.listeners[index].addr.to_string());
            compare(key, old, new);
        }
        compare("admin", self.admin.to_string(), next.admin.to_string());
        let workers = |mesh: &Mesh| mesh.workers.map_or("unset".into(), |n| n.to_string());
        compare("workers", workers(self), workers(next));
        let (old, new) = (&self.sockets, &next.sockets);
        compare("backlog", old.backlog.to_string(), new.backlog.to_string());
        let duration = |d: Option<std::time::Duration>| d.map_or("0".into(), |d| format!("{d:?}"));
        compare("keepalive", duration(old.keepalive), duration(new.keepalive));
        compare("user_timeout", duration(old.user_timeout), duration(new.user_timeout));
        changed
    }
}
