//! The mesh of the demo: every app has a Selvedge of its own in front of it, and an authority in
//! memory says who is who.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use selvedge::ca::{Authority, LIFETIME};
use selvedge::identity::Key;
use selvedge_core::config::{self, Config, Listener, ListenerKind, Meshed};
use selvedge_core::engine::{Direction, Event};
use selvedge_core::identity::{Name, Update};
use selvedge_core::time::UnixTime;
use selvedge_tokio::{Options, Workers};
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::app::DiaryReader;

/// Whom the apps see.
pub(super) const CLIENT: &str = "client.demo.serviceaccount.identity.linkerd.cluster.local";
/// Whom the client's Selvedge has to see.
const SHOP: &str = "shop.demo.serviceaccount.identity.linkerd.cluster.local";

/// Who is who.
pub(super) struct Mesh {
    client: Update,
    shop: Update,
    sessions: Sessions,
}

/// What was agreed on, and how often.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Session {
    pub(super) identity: String,
    pub(super) version: &'static str,
    pub(super) group: &'static str,
    pub(super) suite: &'static str,
}

type Sessions = Arc<Mutex<BTreeMap<Session, u64>>>;

impl Mesh {
    /// Makes an authority, and has a key of either side certified.
    ///
    /// # Errors
    /// The cryptography refuses.
    pub(super) fn new() -> io::Result<Mesh> {
        let authority = failing(Authority::in_memory("cluster.local", SystemTime::now()))?;
        let (client, shop) = (certify(&authority, CLIENT)?, certify(&authority, SHOP)?);
        Ok(Mesh { client, shop, sessions: Sessions::default() })
    }

    /// What the client's Selvedge is told.
    pub(super) fn client(&self) -> (config::Identity, Update) {
        (config::Identity::new(self.client.name.clone()), self.client.clone())
    }

    /// How the client's Selvedge speaks to a pod.
    pub(super) fn meshed(&self) -> Meshed {
        Meshed::new(self.shop.name.clone(), None)
    }

    /// What the pods agreed on with whom.
    pub(super) fn sessions(&self) -> Vec<(Session, u64)> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.iter().map(|(session, count)| (session.clone(), *count)).collect()
    }

    /// Puts a Selvedge in front of an app.
    ///
    /// # Errors
    /// There is no port or no thread.
    pub(super) fn pod(&self, app: SocketAddr) -> io::Result<Pod> {
        let mut pod = Pod {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            app,
            identity: self.shop.clone(),
            sessions: Arc::clone(&self.sessions),
            workers: None,
        };
        pod.start()?;
        Ok(pod)
    }
}

/// An app's Selvedge.
pub(super) struct Pod {
    /// Where the mesh sends what is for the app.
    pub(super) addr: SocketAddr,
    app: SocketAddr,
    identity: Update,
    sessions: Sessions,
    /// While it runs.
    workers: Option<Workers>,
}

impl Pod {
    fn start(&mut self) -> io::Result<()> {
        let config = Config {
            listeners: vec![Listener { addr: self.addr, kind: ListenerKind::Inbound }],
            app: Some(self.app),
            identity: Some(config::Identity::new(self.identity.name.clone())),
            // As a mesh file would say it: [[inbound]] with allow = ["client…"].
            inbound: vec![config::InboundPort::new(
                self.app.port(),
                vec![failing(config::Allow::parse(CLIENT))?],
            )],
            ..Config::default()
        };
        let bound = selvedge_tokio::bind(&config, &Options::default()).map_err(io::Error::other)?;
        self.addr = bound.local_addrs()[0];
        let sessions = Arc::clone(&self.sessions);
        let workers = bound.serve(&Arc::new(config), move |event| note(&sessions, &event))?;
        workers.handles()[0].identify(Ok(self.identity.clone()));
        self.workers = Some(workers);
        Ok(())
    }

    /// Serves until `crash`. Then the Selvedge is gone, and the app is told to go too; both are back
    /// when the app is.
    ///
    /// # Errors
    /// The address could not be had again.
    pub(super) async fn serve_and_crash(
        mut self,
        crash: &Notify,
        app: &Notify,
        diary: &DiaryReader,
    ) -> io::Result<Pod> {
        crash.notified().await;
        // Every connection is closed, idle or busy.
        self.workers = None;
        app.notify_one();
        let held = TcpSocket::new_v4()?;
        held.set_reuseaddr(true)?;
        held.bind(self.addr)?;
        while diary.read().back.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
        drop(held);
        self.start()?;
        Ok(self)
    }
}

fn note(sessions: &Sessions, event: &Event) {
    let Event::TlsEstablished { direction: Direction::Inbound, session, .. } = event else {
        return;
    };
    let identity = session.identity.as_ref().map_or_else(|| "nobody".into(), Name::to_string);
    let session =
        Session { identity, version: session.version, group: session.group, suite: session.suite };
    *sessions.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default() += 1;
}

fn certify(authority: &Authority, name: &str) -> io::Result<Update> {
    let (key, name) = (failing(Key::generate())?, failing(Name::parse(name))?);
    let request = failing(key.request(&name))?;
    let issued = failing(authority.certify(&request, LIFETIME, SystemTime::now()))?;
    let time = |at: SystemTime| {
        UnixTime::from_secs(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    };
    let provider = failing(key.provider(issued.chain, authority.anchors().to_vec()))?;
    let (not_before, not_after) = (time(issued.not_before), time(issued.not_after));
    Ok(Update { provider: Arc::new(provider), name, not_before, not_after })
}

fn failing<T, E: Display>(result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(error.to_string()))
}
