//! `tests/tables/mtls.toml`: what others get who get it wrong, which counter says so, and which line.

use std::fs;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use selvedge::ca::{Authority, Validity, write_certificates};
use selvedge_core::identity::Name;

use super::{identity, init, text_of};
use crate::common::{App, Mesh, Need, PATIENCE, Peer, Proxy, eventually, have, run, script};

pub(super) const FRIEND: &str = "friend.ns.cluster.local";
const STRANGER: &str = "stranger.ns.cluster.local";
const OWN: &str = "web.ns.cluster.local";

const HOUR: Duration = Duration::from_hours(1);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    row: Vec<Row>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    peer: String,
    certificate: Option<String>,
    #[serde(default)]
    more: Vec<String>,
    wire: String,
    counter: String,
    log: String,
}

impl Row {
    /// The series, as `/metrics` writes it.
    fn series(&self, direction: &str) -> String {
        match self.counter.split_once(' ') {
            None => format!("{}{{direction=\"{direction}\"}}", self.counter),
            Some((name, label)) => format!("{name}{{direction=\"{direction}\",{label}}}"),
        }
    }

    fn shown(&self) -> String {
        format!("{} with {:?} {:?}", self.peer, self.certificate, self.more)
    }

    /// The options of the script that plays the peer.
    fn words(&self, folder: &Path) -> Vec<String> {
        let mut words: Vec<String> =
            vec!["--anchors".into(), text_of(&folder.join("ca.crt")).into()];
        if let Some(name) = &self.certificate {
            for (option, end) in [("--certificate", "crt"), ("--key", "pem")] {
                let file = folder.join(format!("{name}.{end}"));
                words.extend([option.into(), text_of(&file).to_owned()]);
            }
        }
        words.extend(self.more.iter().cloned());
        words
    }
}

/// Writes a key and its certificate, as others want them.
pub(super) fn certificate(folder: &Path, file: &str, by: &Authority, name: &str, when: Validity) {
    let key = KeyPair::generate().expect("no key");
    let name = Name::parse(name).expect("a name");
    let issued = by.issue(&key, &name, when).expect("not signed");
    fs::write(folder.join(format!("{file}.crt")), write_certificates(&issued.chain))
        .and_then(|()| fs::write(folder.join(format!("{file}.pem")), key.serialize_pem()))
        .expect("cannot write");
}

/// Every certificate of the table.
fn certificates(folder: &Path) {
    let now = SystemTime::now();
    let own = Authority::load(folder).expect("no authority");
    let other = Authority::in_memory("cluster.local", now).expect("no authority");
    let valid = Validity::starting(now, HOUR);
    let ago = now - 25 * HOUR;
    for (file, by, name, when) in [
        ("friend", &own, FRIEND, valid),
        ("stranger", &own, STRANGER, valid),
        ("other_authority", &other, FRIEND, valid),
        ("expired", &own, FRIEND, Validity::starting(ago, 24 * HOUR)),
        ("not_yet_valid", &own, FRIEND, Validity::starting(now + HOUR, HOUR)),
    ] {
        certificate(folder, file, by, name, when);
    }
}

/// An inbound proxy that lets `FRIEND` in, and its app.
pub(super) fn inbound(ca: &str, app: &App, allow: &str) -> Proxy {
    let port = app.addr.port();
    Mesh::new()
        .proxy(format!("app = \"{}\"", app.addr))
        .section(identity(OWN, ca))
        .section(format!("[[inbound]]\nport = {port}\nallow = [\"{allow}\"]"))
        .start()
}

/// An outbound proxy that forwards to a server which should be `FRIEND`.
fn outbound(ca: &str, server: &Peer) -> Proxy {
    let to = format!("{{ addr = \"{}\", identity = \"{FRIEND}\", port = 8080 }}", server.addr);
    let mesh = Mesh::new()
        .timeout("failfast = \"200ms\"")
        .section(identity(OWN, ca))
        .section(format!("[[tcp]]\nlisten = \"127.0.0.1:{}\"\nto = [{to}]", 0));
    mesh.start()
}

/// Where the proxy's forward listens.
fn forward(proxy: &Proxy) -> std::net::SocketAddr {
    let log = proxy.log();
    let line = log.lines().find(|line| line.contains("kind=\"tcp\"")).expect("no forward");
    let addr = line.split("addr=").nth(1).expect("no address");
    addr.trim().parse().expect("an address")
}

/// What a Python client gets.
#[track_caller]
pub(super) fn client(proxy: &Proxy, words: &[String]) -> String {
    let mut command = script("tls_peer.py");
    command.args(["client", &proxy.inbound().port().to_string(), "--name", OWN]).args(words);
    run(&mut command, PATIENCE).ok().text()
}

fn rows(peer: &str) -> Vec<Row> {
    let table = toml::from_str(include_str!("../../tables/mtls.toml"));
    let Table { row } = table.expect("a good table");
    row.into_iter().filter(|row| row.peer == peer).collect()
}

/// The counter goes up, and a new line says what the row says.
#[track_caller]
fn assert_told(proxy: &Proxy, row: &Row, series: &str, before: (u64, usize)) {
    let (count, length) = before;
    eventually(&format!("{}: {series}", row.shown()), PATIENCE, || {
        (proxy.metric(series) > count).then_some(())
    });
    eventually(&format!("{}: {:?} is logged", row.shown(), row.log), PATIENCE, || {
        proxy.log()[length..].contains(&row.log).then_some(())
    });
}

#[test]
fn what_clients_get() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    certificates(folder.path());
    let app = App::start("the app");
    let proxy = inbound(&ca, &app, FRIEND);
    for row in rows("client") {
        let series = row.series("inbound");
        let before = (proxy.metric(&series), proxy.log().len());
        let seen = client(&proxy, &row.words(folder.path()));
        assert!(seen.starts_with(&row.wire), "{}: {seen}", row.shown());
        assert_told(&proxy, &row, &series, before);
    }
}

#[test]
fn what_servers_get() {
    if !have(&[Need::Program("python3"), Need::Program("curl")]) {
        return;
    }
    let (folder, ca) = init();
    certificates(folder.path());
    for row in rows("server") {
        let mut command = script("tls_peer.py");
        let server = Peer::start(command.arg("server").args(row.words(folder.path())));
        let proxy = outbound(&ca, &server);
        let series = row.series("outbound");
        let before = (proxy.metric(&series), 0);
        let mut stream = TcpStream::connect(forward(&proxy)).expect("cannot connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("cannot set a timeout");
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        drop(stream);
        eventually(&format!("{}: {}", row.shown(), server.output()), PATIENCE, || {
            server.output().lines().skip(1).any(|line| line.contains(&row.wire)).then_some(())
        });
        assert_told(&proxy, &row, &series, before);
        let is_good = row.certificate.as_deref() == Some("friend") && row.more.is_empty();
        assert_eq!(answer == b"partial", is_good, "{}: {ended:?}", row.shown());
    }
}
