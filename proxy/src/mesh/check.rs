//! What can only be judged with the whole file in view: names and addresses that must differ, and
//! targets that would lead back into this proxy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use selvedge_core::config::Target;

use super::Mesh;
use super::read::{Reader, Site};
use super::value::{arrives_at, collide};

/// Every listener, target and name with its place in the file.
#[derive(Default)]
pub(super) struct Sites {
    /// Listeners that the file does not mention come first, so that complaints go to the others.
    defaults: Vec<(Site, SocketAddr)>,
    listeners: Vec<(Site, SocketAddr)>,
    forwards: Vec<(Site, SocketAddr)>,
    targets: Vec<(Site, Target)>,
    names: Vec<(Site, Arc<str>)>,
    /// Services that something refers to.
    uses: Vec<(Site, Arc<str>)>,
    inbound: Vec<(Site, u16)>,
    /// What makes no sense without an identity.
    meshed: Vec<Site>,
    has_identity: bool,
}

impl Sites {
    /// A file without `[proxy]`.
    pub(super) fn default_listeners(&mut self, mesh: &Mesh) {
        self.default_listener("outbound", mesh.config.listeners[0].addr);
        self.default_listener("inbound", mesh.config.listeners[1].addr);
        self.default_listener("admin", mesh.admin);
    }

    pub(super) fn default_listener(&mut self, key: &str, addr: SocketAddr) {
        let site = Site::default_of(&format!("proxy.{key}"));
        self.defaults.push((site, addr));
    }

    pub(super) fn listener(&mut self, site: Site, addr: SocketAddr) {
        self.listeners.push((site, addr));
    }

    pub(super) fn forward(&mut self, site: Site, addr: SocketAddr) {
        self.forwards.push((site, addr));
    }

    pub(super) fn target(&mut self, site: Site, target: Target) {
        self.targets.push((site, target));
    }

    pub(super) fn name(&mut self, site: Site, name: &Arc<str>) {
        self.names.push((site, name.clone()));
    }

    pub(super) fn inbound(&mut self, site: Site, port: u16) {
        self.inbound.push((site, port));
    }

    pub(super) fn meshed(&mut self, site: Site) {
        self.meshed.push(site);
    }

    /// There is one, good or bad.
    pub(super) fn identity(&mut self) {
        self.has_identity = true;
    }

    pub(super) fn use_of(&mut self, site: Site, name: &Arc<str>) {
        self.uses.push((site, name.clone()));
    }

    /// Complains about what does not go together.
    pub(super) fn check(self, reader: &mut Reader<'_>) {
        let mut names: BTreeMap<&str, &Site> = BTreeMap::new();
        for (site, name) in &self.names {
            if let Some(first) = names.insert(name, site) {
                let first = &first.path;
                reader.refuse(
                    site,
                    &format!("expected an authority of its own, but {first} is {name} too"),
                );
            }
        }
        for (index, (site, port)) in self.inbound.iter().enumerate() {
            let twin = self.inbound[..index].iter().find(|(_, other)| port == other);
            if let Some((first, _)) = twin {
                let first = &first.path;
                reader.refuse(site, &format!("expected every port once, but it is {first} too"));
            }
        }
        if !self.has_identity {
            for site in &self.meshed {
                reader
                    .refuse(site, "expected an [identity] section: only who is somebody can tell");
            }
        }
        for (site, name) in &self.uses {
            if !names.contains_key(&**name) {
                let expected = format!("expected a service of this file, and no service is {name}");
                reader.refuse(site, &expected);
            }
        }
        // A forward is known by its address: even with port 0 it needs one of its own.
        for (index, (site, addr)) in self.forwards.iter().enumerate() {
            let twin =
                self.forwards[..index].iter().find(|(_, other)| addr.port() == 0 && addr == other);
            if let Some((first, _)) = twin {
                refuse_listener(reader, site, first, *addr);
            }
        }
        let listeners: Vec<_> = [self.defaults, self.listeners, self.forwards].concat();
        for (index, (site, addr)) in listeners.iter().enumerate() {
            let taken = listeners[..index].iter().find(|(_, other)| collide(*addr, *other));
            if let Some((first, other)) = taken {
                refuse_listener(reader, site, first, *other);
            }
        }
        for (site, target) in &self.targets {
            let own = listeners.iter().find(|(_, addr)| arrives_at(target, *addr));
            if let Some((listener, addr)) = own {
                let listener = &listener.path;
                reader.refuse(
                    site,
                    &format!("expected a target other than this proxy, but {listener} is {addr}"),
                );
            }
        }
    }
}

fn refuse_listener(reader: &mut Reader<'_>, site: &Site, first: &Site, addr: SocketAddr) {
    let first = &first.path;
    reader.refuse(site, &format!("expected an address of its own, but {first} is {addr}"));
}
