//! Who is who: `[identity]`, and the identities of endpoints.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{self, Meshed};
use selvedge_core::identity::Name;

use crate::ca::{self, Authority};

use super::check::Sites;
use super::read::{Reader, Table};
use super::value;

/// Who the proxy is. Without one, nothing is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What its certificate says.
    pub name: Name,
    /// Whose names it knows.
    pub trust_domain: String,
    /// Who signs its certificate.
    pub ca: Source,
    /// How long a certificate from a folder's authority is good for.
    pub lifetime: Duration,
    /// A PEM file of the certificates that sign the peers'; `None`: what the authority says.
    pub anchors: Option<PathBuf>,
}

/// Who signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An authority in a folder, used by the proxy itself.
    Folder(PathBuf),
    /// `selvedge ca serve` on this machine.
    Service(SocketAddr),
}

impl Source {
    pub(super) fn parse(text: &str) -> Option<Source> {
        if !text.contains("://") {
            return (!text.is_empty()).then(|| Source::Folder(text.into()));
        }
        let addr: SocketAddr = text.strip_prefix("http://")?.parse().ok()?;
        let is_reachable = addr.ip().to_canonical().is_loopback() && addr.port() != 0;
        is_reachable.then_some(Source::Service(addr))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Folder(folder) => folder.display().fmt(f),
            Source::Service(addr) => write!(f, "http://{addr}"),
        }
    }
}

impl Identity {
    /// Lets relative paths begin at `folder`, where the mesh file is.
    pub fn resolve(&mut self, folder: &Path) {
        if let Source::Folder(path) = &mut self.ca {
            *path = folder.join(&*path);
        }
        if let Some(path) = &mut self.anchors {
            *path = folder.join(&*path);
        }
    }

    /// The file whose certificates are trusted. `None`: the authority has to be asked.
    pub fn anchors_file(&self) -> Option<PathBuf> {
        match (&self.anchors, &self.ca) {
            (Some(file), _) => Some(file.clone()),
            (None, Source::Folder(folder)) => Some(Authority::certificate_file(folder)),
            (None, Source::Service(_)) => None,
        }
    }

    /// What is wrong with the files that it names, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Source::Folder(folder) = &self.ca {
            match Authority::load(folder) {
                Ok(authority) if authority.trust_domain() != self.trust_domain => {
                    problems.push(format!(
                        "identity.trust_domain = {:?}: expected {:?}, which the certificate in {} \
                         is for",
                        self.trust_domain,
                        authority.trust_domain(),
                        folder.display()
                    ));
                }
                Ok(_) => {}
                Err(why) => problems.push(format!("identity.ca: {why}")),
            }
        }
        if let Some(file) = &self.anchors {
            let anchors = std::fs::read_to_string(file).map_err(|error| error.to_string());
            let anchors =
                anchors.and_then(|text| ca::read_certificates(&text).map_err(|e| e.to_string()));
            if let Err(why) = anchors {
                problems.push(format!("identity.anchors: {}: {why}", file.display()));
            }
        }
        problems
    }
}

/// `[identity]`: what the proxy has to do for it, and what the engine has to know.
pub(super) fn read(
    reader: &mut Reader<'_>,
    mut table: Table<'_>,
) -> Option<(Identity, config::Identity)> {
    let mut trust_domain = "cluster.local".to_owned();
    table.set(reader, "trust_domain", &mut trust_domain, value::trust_domain);
    let name = table
        .require(reader, "name", "expected the name of this proxy")
        .and_then(|item| item.read(reader, |v| value::own_name(v, &trust_domain)));
    let server_name = read_server_name(reader, &mut table, name.as_ref());
    let ca = table
        .require(reader, "ca", "expected the folder of an authority, or its http:// address")
        .and_then(|item| item.read(reader, value::source));
    let mut lifetime = ca::LIFETIME;
    if let Some(item) = table.get(reader, "lifetime") {
        if let Some(given) = item.read(reader, value::lifetime) {
            lifetime = given;
        }
        if let Some(Source::Service(_)) = ca {
            let expected =
                "expected only with the folder of an authority: a service decides itself";
            reader.refuse(&item.site, expected);
        }
    }
    let mut anchors = None;
    table.set(reader, "anchors", &mut anchors, |v| value::path(v).map(Some));
    table.finish(reader);
    let (name, ca, server_name) = (name?, ca?, server_name?);
    let known = config::Identity { name: name.clone(), server_name };
    Some((Identity { name, trust_domain, ca, lifetime, anchors }, known))
}

/// What clients ask for by SNI: the name, unless that is a URI, which SNI cannot carry.
fn read_server_name(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    name: Option<&Name>,
) -> Option<Arc<str>> {
    const KEY: &str = "server_name";
    let item = match name {
        Some(name) if name.is_uri() => {
            let expected = "expected a DNS name to be asked for: SNI has no place for a spiffe URI";
            table.require(reader, KEY, expected)?
        }
        _ => match table.get(reader, KEY) {
            Some(item) => item,
            None => return name.map(|name| name.as_str().into()),
        },
    };
    item.read(reader, value::server_name)
}

/// `identity`, `server_name` and `port` of an endpoint that is a mesh proxy.
pub(super) fn read_meshed(
    reader: &mut Reader<'_>,
    table: &mut Table<'_>,
    sites: &mut Sites,
) -> Option<Meshed> {
    let Some(item) = table.get(reader, "identity") else {
        for key in ["server_name", "port"] {
            if let Some(item) = table.get(reader, key) {
                reader.refuse(&item.site, "expected only beside identity");
            }
        }
        return None;
    };
    let identity = item.read(reader, value::name);
    sites.meshed(item.site);
    let server_name = read_server_name(reader, table, identity.as_ref());
    let mut port = None;
    table.set(reader, "port", &mut port, |v| value::port(v).map(Some));
    Some(Meshed { identity: identity?, server_name: server_name?, port })
}
