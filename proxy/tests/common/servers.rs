//! haproxy, nginx, nghttpd, openssl and ncat: apps that answer at once, and proxies before ours.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::{Peer, free_port, program};

/// The server that haproxy is told of, behind `bind`.
const HAPROXY: &str = "global\n  nbthread 1\n\
    defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n\
    frontend app\n  bind ";

impl Peer {
    /// haproxy as an app that answers everything with `name`.
    pub(crate) fn haproxy(name: &str, port: u16) -> Self {
        Self::haproxy_on(name, port, "")
    }

    /// The same, with more words behind `bind`: `proto h2`.
    pub(crate) fn haproxy_on(name: &str, port: u16, bind: &str) -> Self {
        let rule = format!("http-request return status 200 content-type text/plain string {name}");
        haproxy((Ipv4Addr::LOCALHOST, port).into(), bind, &rule)
    }

    /// haproxy as a proxy before `to`; `words` stand behind `bind` and behind `server`: `proto h2`.
    pub(crate) fn haproxy_before(to: SocketAddr, words: &str) -> Self {
        Self::haproxy_between(words, to, words)
    }

    /// The same, with other words for either side.
    pub(crate) fn haproxy_between(bind: &str, to: SocketAddr, server: &str) -> Self {
        let rule = format!("default_backend next\nbackend next\n  server next {to} {server}");
        haproxy(loopback(), bind, &rule)
    }

    /// nginx as an app that answers everything with `name`; `words` stand behind `listen`: `http2`.
    /// It ends every connection after 1,000 requests.
    pub(crate) fn nginx(name: &str, words: &str) -> Self {
        let rule = format!("location / {{ return 200 {name}; }}");
        nginx(words, "", &rule)
    }

    /// nginx as a proxy before `to`, which hears HTTP/1.1 over kept connections. Clients speak what
    /// `words` behind `listen` say.
    pub(crate) fn nginx_before(to: SocketAddr, words: &str) -> Self {
        let rule = "location / { proxy_pass http://next; proxy_http_version 1.1; \
            proxy_set_header Host $host; proxy_set_header Connection ''; }";
        nginx(words, &format!("upstream next {{ server {to}; keepalive 16; }}"), rule)
    }

    /// nginx as a proxy before `to`, with HTTP/2 on either side.
    pub(crate) fn nginx_grpc_before(to: SocketAddr) -> Self {
        let rule = "location / { grpc_pass grpc://next; grpc_set_header Host $host; }";
        nginx("http2", &format!("upstream next {{ server {to}; keepalive 16; }}"), rule)
    }

    /// openssl's server, which says what it got of a session: TLS with a certificate and its key.
    pub(crate) fn openssl(pem: &str, options: &[&str]) -> Self {
        let addr = loopback();
        let mut command = program("openssl");
        command.args(["s_server", "-naccept", "1000", "-accept", &addr.to_string()]);
        command.args(["-cert", pem, "-key", pem]).args(options);
        Peer::listening(&mut command, addr)
    }

    /// ncat, which sends everything back.
    pub(crate) fn echo() -> Self {
        let addr = loopback();
        let mut command = program("ncat");
        command.args(["--listen", "--keep-open", "--exec", "/bin/cat", "127.0.0.1"]);
        Peer::listening(command.arg(addr.port().to_string()), addr)
    }

    /// nghttpd with the files of `folder`. A POST is answered with its body.
    pub(crate) fn nghttpd(folder: &Path, options: &[&str]) -> Self {
        let addr = loopback();
        let mut command = program("nghttpd");
        command.args(["--no-tls", "--echo-upload", "--address", "127.0.0.1", "--htdocs"]);
        command.arg(folder).args(options).arg(addr.port().to_string());
        Peer::listening(&mut command, addr)
    }
}

fn haproxy(addr: SocketAddr, bind: &str, rule: &str) -> Peer {
    let file = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
    let config = format!("{HAPROXY}{addr} {bind}\n  {rule}\n");
    std::fs::write(file.path(), config).expect("cannot write");
    Peer::listening(program("haproxy").args(["-db", "-f"]).arg(file.path()), addr)
}

/// Its files are all in a folder of its own, which is gone once it has read and opened them.
fn nginx(listen: &str, upstream: &str, location: &str) -> Peer {
    let addr = loopback();
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let path = folder.path().display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let paths: String = paths.map(|what| format!("  {what}_temp_path {path}/{what};\n")).concat();
    // A proxy in front keeps its clients: what may end connections is what ours talks to.
    let kept = if upstream.is_empty() { "" } else { "  keepalive_requests 1000000;\n" };
    let config = format!(
        "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\n{paths}{kept}  access_log off;\n  {upstream}\n  \
         server {{ listen {addr} {listen}; default_type text/plain; {location} }}\n}}\n"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).expect("cannot write");
    Peer::listening(program("nginx").arg("-p").arg(folder.path()).arg("-c").arg(&file), addr)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
