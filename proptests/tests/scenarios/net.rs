//! What a scenario is played on: clients and apps around a running proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use selvedge_core::config::{
    Config, Endpoint, Listener, ListenerKind, Service, ServiceTimeouts, Target,
};
use selvedge_core::engine::{Command, Event};
use selvedge_core::stats::Snapshot;

/// One end of a connection that is not the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) usize);

/// What a peer sees next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// Clients, apps and a proxy. What is waited for comes, or the test fails.
pub(crate) trait Net {
    /// A client connects to a listener.
    fn connect(&mut self, listener: usize) -> Peer;
    /// Waits for the proxy to connect to an app.
    fn accept(&mut self, app: usize) -> Peer;
    /// Has the proxy connected to the app, without being accepted yet?
    fn has_caller(&mut self, app: usize) -> bool;
    /// The app does not accept what comes from now on.
    fn refuse(&mut self, app: usize);
    /// Sends, as far and as soon as the other side takes it.
    fn send(&mut self, peer: Peer, bytes: &[u8]);
    /// A FIN after everything.
    fn finish(&mut self, peer: Peer);
    /// Closes with a reset.
    fn reset(&mut self, peer: Peer);
    /// Closes. What it had to send was sent, and everything that came was seen.
    fn close(&mut self, peer: Peer);
    /// Waits for what a peer sees next.
    fn receive(&mut self, peer: Peer) -> Arrived;
    /// Lets time pass.
    fn wait(&mut self, time: Duration);
    fn command(&mut self, command: Command);
    /// Waits for the next event.
    fn event(&mut self) -> Event;
    /// `None`: the proxy has ended.
    fn snapshot(&mut self) -> Option<Snapshot>;
    /// Where an app listens.
    fn addr(&self, app: usize) -> SocketAddr;
    /// What the proxy was started with.
    fn config(&self) -> &Config;
}

/// How a scenario changes what [`config`] says.
pub(crate) type Setup = fn(&mut Config);

/// The listeners of [`config`].
pub(crate) const OUTBOUND: usize = 0;
pub(crate) const INBOUND: usize = 1;
pub(crate) const FORWARD: usize = 2;

/// How many apps there are.
pub(crate) const APPS: usize = 3;

/// What every scenario starts from: `app.example` is the first app, `two.example` are the other two,
/// inbound and the forward go to the first.
pub(crate) fn config(apps: &[SocketAddr], setup: Setup) -> Config {
    let listener = |kind| Listener { addr: "127.0.0.1:0".parse().unwrap(), kind };
    let service = |name: &str, apps: &[SocketAddr], opaque| Service {
        name: name.into(),
        endpoints: apps.iter().map(|&app| endpoint(app)).collect(),
        opaque,
        timeouts: ServiceTimeouts::default(),
        ..Service::default()
    };
    let mut config = Config {
        listeners: vec![
            listener(ListenerKind::Outbound),
            listener(ListenerKind::Inbound),
            listener(ListenerKind::Forward(Arc::from("forward"))),
        ],
        app: Some(apps[0]),
        services: vec![
            service("app.example:80", &apps[..1], false),
            service("two.example:80", &apps[1..], false),
            service("forward", &apps[..1], true),
        ],
        ..Config::default()
    };
    // What these do to a scenario that is not about them would be up to the time it takes.
    let timeouts = &mut config.timeouts;
    for time in [&mut timeouts.backoff_min, &mut timeouts.backoff_max, &mut timeouts.pool_idle] {
        *time = Duration::from_hours(1);
    }
    setup(&mut config);
    config
}

pub(crate) fn endpoint(addr: SocketAddr) -> Endpoint {
    Endpoint { target: Target::Addr(addr), weight: 1, mesh: None, zone: None }
}
