use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use selvedge::ca::describe;
use selvedge::identity::Key;
use selvedge_core::identity::Name;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::server::Server;
use super::*;

const NAME: &str = "web.ns.cluster.local";
const HOUR: Duration = Duration::from_hours(1);

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    Authority::init(folder.path(), "cluster.local", SystemTime::now()).unwrap();
    folder
}

fn name_of(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn request(name: &str) -> Vec<u8> {
    Key::generate().unwrap().request(&name_of(name)).unwrap()
}

async fn serve(folder: &tempfile::TempDir) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(Server::new(folder.path().into(), HOUR).serve(listener));
    addr
}

#[tokio::test]
async fn a_folder_and_a_service_grant_the_same() {
    let folder = folder();
    let service = Source::Service(serve(&folder).await);
    for source in [Source::Folder(folder.path().into()), service] {
        let granted = certify(&source, request(NAME), HOUR).await.unwrap();
        let (validity, name) = describe(&granted.chain[0]).unwrap();
        assert_eq!(name, Some(name_of(NAME)));
        let left = validity.not_after.duration_since(SystemTime::now()).unwrap();
        assert!(left <= HOUR && left + Duration::from_secs(30) > HOUR, "{left:?}");
        let expected = Authority::load(folder.path()).unwrap();
        assert_eq!(granted.anchors, expected.anchors());
    }
}

#[tokio::test]
async fn a_service_says_why_it_refuses() {
    let folder = folder();
    let addr = serve(&folder).await;
    let service = Source::Service(addr);
    let ask = |request| certify(&service, request, HOUR);
    let why = ask(request("web.elsewhere")).await.unwrap_err();
    let expected = "/certify: 403 Forbidden: web.elsewhere: expected a name in the trust \
                    domain cluster.local";
    assert_eq!(why, format!("http://{addr}: {expected}"));
    let why = ask(b"hello".to_vec()).await.unwrap_err();
    assert!(why.ends_with("400 Bad Request: expected a certificate signing request (PKCS #10)"));
    let why = ask(vec![0; 100_000]).await.unwrap_err();
    assert!(why.contains("413") || why.contains("error"), "{why}");
    // What becomes of its folder is seen at once, and is told to its log only.
    let key = folder.path().join("ca.key");
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let why = ask(request(NAME)).await.unwrap_err();
    assert!(why.contains("503") && !why.contains("ca.key"), "{why}");
    let gone = certify(&Source::Folder(folder.path().into()), request(NAME), HOUR).await;
    assert!(gone.unwrap_err().contains("ca.key: No such file"));
    fs::write(&key, kept).unwrap();
    let wide = certify(&Source::Folder(folder.path().into()), request(NAME), HOUR).await;
    assert!(wide.unwrap_err().contains("its mode is 0644"));
}

#[tokio::test]
async fn nobody_there_is_an_error_and_no_hang() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Closes without an answer.
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    certify(&Source::Service(addr), request(NAME), HOUR).await.unwrap_err();
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let why = certify(&Source::Service(free), request(NAME), HOUR).await.unwrap_err();
    assert!(why.contains("refused"), "{why}");
}

/// Sends a request and reads until the server closes.
async fn raw(addr: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("{head}Host: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_page_in_a_browser_gets_nothing_signed() {
    let folder = folder();
    let addr = serve(&folder).await;
    let good = request(NAME);
    for (head, status) in [
        // What a form or a script of another origin can send without being asked back.
        ("POST /certify HTTP/1.1\r\nContent-Type: text/plain\r\n", "415"),
        ("POST /certify HTTP/1.1\r\n", "415"),
        ("OPTIONS /certify HTTP/1.1\r\n", "405"),
        ("GET /certify HTTP/1.1\r\n", "405"),
        ("POST /anchors HTTP/1.1\r\n", "405"),
        ("GET / HTTP/1.1\r\n", "404"),
        ("POST /certify HTTP/1.1\r\nContent-Type: application/pkcs10\r\n", "200"),
    ] {
        let answer = raw(addr, head, &good).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert_eq!(answer.contains("BEGIN CERTIFICATE"), status == "200");
    }
}
