//! curl on one side, hyper and Python's http.server on the other.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{
    App, Canned, Mesh, Need, PATIENCE, Peer, Proxy, curl, full, have, program, run, script, tell,
};

const NEEDS: [Need; 1] = [Need::Program("curl")];

fn pair() -> (App, Proxy) {
    let app = App::start("the app");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    (app, proxy)
}

/// curl that takes the proxy for a forward proxy.
fn by_proxy(proxy: SocketAddr, args: &[&str]) -> crate::common::Ran {
    let mut command = program("curl");
    command.args(["--silent", "--show-error", "--max-time", "50", "--proxy"]);
    command.arg(format!("http://{proxy}")).args(args);
    run(&mut command, PATIENCE)
}

fn file_of(bytes: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
    let line = b"0123456789abcde\n";
    file.write_all(&line.repeat(bytes / line.len())).expect("cannot write");
    file
}

fn data(file: &tempfile::NamedTempFile) -> String {
    format!("@{}", file.path().display())
}

#[test]
fn get_and_head() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    assert_eq!(proxy.get("http://web.test/name"), (200, "the app".into()));
    let head = proxy.curl(&["--head", "http://web.test/name"]).ok().text();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.to_lowercase().contains("content-length: 7\r\n"), "{head}");
    // A length without a body does not confuse what follows on the connection.
    let connect_to = format!("::{}", proxy.outbound());
    let url = "http://web.test/name";
    let next = ["--next", "-sS", "--connect-to", &connect_to, url];
    let both = proxy.curl(&[&["--head", url][..], &next].concat()).ok().text();
    assert!(both.ends_with("\r\n\r\nthe app"), "{both}");
    // Fields that only proxies add are not there.
    let seen = proxy.get("http://web.test/reflect").1;
    for field in ["via:", "x-forwarded", "forwarded:", "connection:"] {
        assert!(!seen.contains(field), "{seen}");
    }
    assert_eq!(app.requests(), 5);
}

#[test]
fn two_urls_share_a_connection_on_both_sides() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    let url = "http://web.test/name";
    let count = "%{num_connects} ";
    let args = ["-o", "/dev/null", "-o", "/dev/null", "-w", count, url, url];
    assert_eq!(proxy.curl(&args).ok().text(), "1 0 ");
    assert_eq!((app.requests(), app.connections()), (2, 1));
}

#[test]
fn gigabytes_pass_unchanged_and_leave_no_trace_in_memory() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let mib: u64 = if full() { 1024 } else { 64 };
    let limit = Duration::from_secs(if full() { 300 } else { 60 });
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let file = folder.path().join("big");
    let path = file.display();
    let shell =
        |line: &str| run(program("bash").args(["-o", "pipefail", "-c", line]), limit).ok().text();
    shell(&format!("head -c {mib}M /dev/urandom > {path}"));
    let sum = |line: &str| shell(line).split_whitespace().next().map(str::to_owned);
    let expected = sum(&format!("sha256sum {path}"));

    let app = Peer::start(script("hash_app.py").arg(folder.path()));
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let to = proxy.outbound();
    let curl = format!("curl -sS --fail --noproxy '*' --connect-to ::{to}");
    for line in [
        format!("{curl} http://web.test/big | sha256sum"),
        format!("{curl} -X POST -T {path} http://web.test/"),
        format!("{curl} -X POST -T - http://web.test/ < {path}"),
    ] {
        assert_eq!(sum(&line), expected, "{line}");
    }
    let peak = proxy.memory("VmHWM");
    tell(&format!("peak memory with bodies of {mib} MiB: {peak} bytes"));
    assert!(peak < 20_000_000, "{peak} bytes resident");
}

#[test]
fn trailers_of_a_response_arrive() {
    if !have(&NEEDS) {
        return;
    }
    let (_app, proxy) = pair();
    // hyper sends them to those who say that they want them.
    let url = "http://web.test/trailers";
    let ran = proxy.curl(&["-i", "-H", "TE: trailers", "-H", "Connection: TE", url]);
    let text = ran.ok().text();
    assert!(text.to_lowercase().contains("trailer: checksum\r\n"), "{text}");
    assert!(text.contains("\r\n\r\nthe body\n"), "{text}");
    assert!(text.contains("checksum: abc\r\n"), "{text}");
}

#[test]
fn a_body_waits_for_100_continue() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    let file = file_of(1 << 20);
    let body = data(&file);
    // curl would send the body by itself only after the time limit of this test.
    let patient = ["-v", "--expect100-timeout", "55", "-H", "Expect: 100-continue"];
    let args = [&patient[..], &["--data-binary", &body, "http://web.test/reflect"]].concat();
    let ran = proxy.curl(&args).ok();
    assert!(ran.stderr.contains("< HTTP/1.1 100 Continue"), "{}", ran.stderr);
    assert!(ran.text().contains("body of 1048576 bytes\n"), "{}", ran.text());

    // A server that does not want the body is spared it.
    let counts = "%{http_code} %{size_upload}";
    let refused = ["-w", counts, "--data-binary", &body, "http://web.test/refuse"];
    let ran = proxy.curl(&[&patient[..], &refused].concat());
    assert_eq!(ran.text(), "413 0", "{}", ran.stderr);
    assert_eq!(app.requests(), 2);
}

#[test]
fn a_100_that_nobody_waits_for_is_no_answer() {
    if !have(&NEEDS) {
        return;
    }
    let server = Canned::start(|_| {
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"
            .into()
    });
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    assert_eq!(proxy.get("http://web.test/"), (200, "done".into()));
}

#[test]
fn http_1_0() {
    if !have(&NEEDS) {
        return;
    }
    let (_app, proxy) = pair();
    let known = proxy.curl(&["--http1.0", "-i", "http://web.test/name"]);
    let known = known.ok().text();
    assert!(known.contains(" 200 OK\r\n"), "{known}");
    assert!(known.ends_with("\r\n\r\nthe app"), "{known}");
    // A body without a length ends with the connection: HTTP/1.0 knows no chunks.
    let unknown = proxy.curl(&["--http1.0", "-i", "http://web.test/drip/3/10"]);
    let unknown = unknown.ok().text();
    assert!(!unknown.to_lowercase().contains("transfer-encoding"), "{unknown}");
    assert!(unknown.ends_with("\r\n\r\npiece 0\npiece 1\npiece 2\n"), "{unknown}");
    // The same in HTTP/1.1 comes in chunks, of which curl sees nothing.
    let chunked = proxy.curl(&["-i", "http://web.test/drip/3/10"]).ok().text();
    assert!(chunked.to_lowercase().contains("transfer-encoding: chunked\r\n"), "{chunked}");
    assert!(chunked.ends_with("\r\n\r\npiece 0\npiece 1\npiece 2\n"), "{chunked}");
    // Keep-alive has to be asked for, and is answered.
    let url = "http://web.test/name";
    let count = "%{num_connects} ";
    let ask = ["--http1.0", "-H", "Connection: keep-alive", "-o", "/dev/null", "-o", "/dev/null"];
    let args = [&ask[..], &["-w", count, url, url]].concat();
    assert_eq!(proxy.curl(&args).ok().text(), "1 0 ");
}

#[test]
fn an_http_1_0_server_answers() {
    if !have(&[Need::Program("curl"), Need::Program("python3")]) {
        return;
    }
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    std::fs::write(folder.path().join("file"), "content").expect("cannot write");
    // As everyone starts it; the script only says on which port.
    let mut server = program("python3");
    let line = "import http.server as s, sys\n\
                h = s.ThreadingHTTPServer(('127.0.0.1', 0), \
                lambda *a: s.SimpleHTTPRequestHandler(*a, directory=sys.argv[1]))\n\
                print('%s:%d' % h.server_address, flush=True)\n\
                h.serve_forever()";
    let server = Peer::start(server.args(["-c", line]).arg(folder.path()));
    let proxy = Mesh::new().service("web.test", &[server.addr]).start();
    for _ in 0..3 {
        assert_eq!(proxy.get("http://web.test/file"), (200, "content".into()));
    }
    assert_eq!(proxy.get("http://web.test/none").0, 404);
    // It knows no POST, and says so.
    let args = ["-o", "/dev/null", "-w", "%{http_code}", "-d", "x", "http://web.test/file"];
    assert_eq!(proxy.curl(&args).ok().text(), "501");
}

#[test]
fn as_a_forward_proxy_in_absolute_form() {
    if !have(&NEEDS) {
        return;
    }
    let (_app, proxy) = pair();
    let url = "http://web.test/reflect?a=b";
    let seen = by_proxy(proxy.outbound(), &[url]).ok().text();
    assert!(seen.starts_with("GET /reflect?a=b HTTP/1.1\n"), "{seen}");
    assert!(seen.contains("\nhost: web.test\n"), "{seen}");
    // RFC 9112 §3.2.2: the target wins over Host.
    let seen = by_proxy(proxy.outbound(), &["-H", "Host: other.test", url]);
    assert!(seen.ok().text().contains("\nhost: web.test\n"));
    // It is no open proxy.
    let args = ["-o", "/dev/null", "-w", "%{http_code}", "http://other.test/"];
    assert_eq!(by_proxy(proxy.outbound(), &args).ok().text(), "404");
}

#[test]
fn connect_leads_to_services_only() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    let args = ["--proxytunnel", "http://web.test/name", "http://web.test/name"];
    let ran = by_proxy(proxy.outbound(), &args).ok();
    assert_eq!(ran.text(), "the appthe app");
    // By its address, where the app could be reached without us, it cannot be reached through us.
    for target in [format!("http://{}/name", app.addr), "http://other.test/".into()] {
        let ran = by_proxy(proxy.outbound(), &["--proxytunnel", &target]);
        assert!(!ran.status.success(), "{target}");
        assert!(ran.stderr.contains("404"), "{}", ran.stderr);
    }
    assert_eq!(app.requests(), 2);
}

#[test]
fn an_upgrade_to_h2c_goes_on_as_http_1_1() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    let file = file_of(100_000);
    let body = data(&file);
    let (upload, reflect) = (["--http2", "--data-binary", &body], "http://web.test/reflect");
    let ran = proxy.curl(&[&upload[..], &["-v", reflect]].concat()).ok();
    // curl did ask.
    assert!(ran.stderr.contains("> Upgrade: h2c"), "{}", ran.stderr);
    assert!(ran.stderr.contains("> HTTP2-Settings:"), "{}", ran.stderr);
    let seen = ran.text();
    assert!(seen.contains("body of 100000 bytes\n"), "{seen}");
    for field in ["\nupgrade:", "\nhttp2-settings:", "\nconnection:"] {
        assert!(!seen.contains(field), "{seen}");
    }
    // The same connection serves the next.
    let again = ["-o", "/dev/null", "-o", "/dev/null", "-w", "%{http_version} %{num_connects} "];
    let args = [&upload[..], &again, &[reflect, reflect]].concat();
    assert_eq!(proxy.curl(&args).ok().text(), "1.1 1 1.1 0 ");
    assert_eq!(app.requests(), 3);
}

#[test]
fn an_unknown_authority_is_answered_404_with_the_reason() {
    if !have(&NEEDS) {
        return;
    }
    let (app, proxy) = pair();
    let unknown = proxy.curl(&["-i", "http://nowhere.test/name"]).ok().text();
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    assert!(unknown.to_lowercase().contains("\r\nl5d-proxy-error: "), "{unknown}");
    for near in ["http://web.test:81/name", "http://a.web.test/name", "http://web/name"] {
        assert_eq!(proxy.get(near).0, 404, "{near}");
    }
    assert_eq!(app.requests(), 0);
    assert!(proxy.log().contains("authority=\"a.web.test:80\""), "{}", proxy.log());
    for same in ["http://web.test:80/name", "http://WEB.test/name", "http://web.test./name"] {
        assert_eq!(proxy.get(same), (200, "the app".into()), "{same}");
    }
    // A body that is refused does not hold up the answer.
    let file = file_of(1 << 20);
    let args = ["-o", "/dev/null", "-w", "%{http_code}", "--data-binary", &data(&file)];
    let args = [&args[..], &["http://nowhere.test/"]].concat();
    assert_eq!(proxy.curl(&args).text(), "404");
}

#[test]
fn inbound_traffic_goes_to_the_app() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("the app");
    let mesh = Mesh::new().proxy(format!("app = \"{}\"", app.addr));
    let proxy = mesh.start();
    let to = proxy.mesh.inbound;
    // Whatever it is called.
    for url in ["http://web.test/name", "http://other.test:8080/name"] {
        assert_eq!(run(&mut curl(to, &[url]), PATIENCE).ok().text(), "the app");
    }
    let metrics = proxy.admin("/metrics").expect("no metrics");
    assert!(metrics.contains("direction=\"inbound\""), "{metrics}");
}

#[test]
fn a_pipelined_batch_is_answered_in_order() {
    if !have(&[Need::Program("ncat")]) {
        return;
    }
    let (app, proxy) = pair();
    let mut batch = tempfile::tempfile().expect("cannot make a temporary file");
    for (path, extra) in
        [("/slow/200", ""), ("/name", ""), ("/drip/2/50", ""), ("/name", "Connection: close\r\n")]
    {
        write!(batch, "GET {path} HTTP/1.1\r\nHost: web.test\r\n{extra}\r\n")
            .expect("cannot write");
    }
    let batch = rewound(batch);
    let port = proxy.outbound().port().to_string();
    let mut ncat = program("ncat");
    let ran = run(ncat.args(["127.0.0.1", &port]).stdin(batch), PATIENCE);
    let text = ran.ok().text();
    let places: Vec<_> = ["the app", "the app", "piece 0", "piece 1", "the app"]
        .iter()
        .scan(0, |from, needle| {
            *from += text[*from..].find(needle)? + needle.len();
            Some(*from)
        })
        .collect();
    assert_eq!(places.len(), 5, "{text}");
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 4, "{text}");
    assert_eq!(app.requests(), 4);
}

fn rewound(mut file: File) -> File {
    use std::io::Seek as _;
    file.rewind().expect("cannot rewind");
    file
}
