//! Keys, seen by curl.

use crate::common::{App, Mesh, Need, Proxy, have};

/// Where each of some users is sent.
fn places(proxy: &Proxy) -> Vec<String> {
    let name = |user: u32| {
        let user = format!("X-User: {user}");
        proxy.curl(&["-H", &user, "http://web.test/name"]).ok().text()
    };
    (0..24).map(name).collect()
}

/// A user stays with an endpoint through a restart of the proxy; without that endpoint only its own
/// users go elsewhere.
#[test]
fn users_stay_where_they_are() {
    if !have(&[Need::Program("curl")]) {
        return;
    }
    let apps = ["a", "b", "c"].map(App::start);
    let addrs = apps.each_ref().map(|app| app.addr);
    let start = |addrs: &[std::net::SocketAddr]| {
        let endpoints: Vec<String> = addrs.iter().map(|addr| format!("\"{addr}\"")).collect();
        let service = format!(
            "[[service]]\nauthority = \"web.test\"\nendpoints = [{}]\n\
             sticky = {{ header = \"x-user\" }}\n",
            endpoints.join(", ")
        );
        Mesh::new().section(service).start()
    };
    let first = places(&start(&addrs));
    assert!(["a", "b", "c"].iter().all(|name| first.iter().any(|place| place == name)));
    assert_eq!(places(&start(&[addrs[2], addrs[0], addrs[1]])), first);
    for (now, before) in places(&start(&addrs[..2])).iter().zip(&first) {
        assert_eq!(now != before, before == "c");
    }
}
