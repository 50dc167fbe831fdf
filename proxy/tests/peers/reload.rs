//! Changes of the mesh file while the proxy runs. curl on one side, hyper on the other.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{App, Mesh, Need, Proxy, eventually, have};

/// A change is to be seen within about 1 s; a busy machine gets more.
const SOON: Duration = Duration::from_secs(5);

const NEEDS: [Need; 1] = [Need::Program("curl")];

fn name(proxy: &Proxy) -> String {
    proxy.get("http://web.test/name").1
}

#[track_caller]
fn soon_served_by(proxy: &Proxy, wanted: &str) {
    let start = Instant::now();
    eventually(wanted, SOON, || (name(proxy) == wanted).then_some(()));
    println!("{wanted} after {:?}", start.elapsed());
    // For good.
    assert!((0..5).all(|_| name(proxy) == wanted));
}

fn lead_to(mesh: &Mesh, app: &App) -> Mesh {
    Mesh { services: vec![("web.test".into(), vec![app.addr], String::new())], ..mesh.clone() }
}

#[test]
fn in_place_and_by_rename() {
    if !have(&NEEDS) {
        return;
    }
    let (a, b) = (App::start("a"), App::start("b"));
    let proxy = Mesh::new().service("web.test", &[a.addr]).start();
    assert_eq!(name(&proxy), "a");
    proxy.rewrite_by_rename(&lead_to(&proxy.mesh, &b));
    soon_served_by(&proxy, "b");
    proxy.rewrite_in_place(&lead_to(&proxy.mesh, &a));
    soon_served_by(&proxy, "a");
    // Of the same length and written at once after another change: still seen.
    proxy.rewrite_in_place(&lead_to(&proxy.mesh, &b));
    proxy.rewrite_in_place(&lead_to(&proxy.mesh, &a));
    proxy.rewrite_in_place(&lead_to(&proxy.mesh, &b));
    soon_served_by(&proxy, "b");
}

/// Lays files out as the kubelet does: `mesh.toml -> ..data/mesh.toml`, `..data -> ..VERSION`.
fn mount(folder: &Path, version: &str, mesh: &Mesh) {
    let data = folder.join(version);
    std::fs::create_dir(&data).expect("cannot make a folder");
    std::fs::write(data.join("mesh.toml"), mesh.render()).expect("cannot write");
    symlink(version, folder.join("..data_tmp")).expect("cannot link");
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("cannot rename");
}

#[test]
fn by_the_swap_of_a_config_map() {
    if !have(&NEEDS) {
        return;
    }
    let (a, b) = (App::start("a"), App::start("b"));
    let mesh = Mesh::new().service("web.test", &[a.addr]);
    let folder = tempfile::tempdir().expect("cannot make a temporary folder");
    let root = folder.path().to_owned();
    mount(&root, "..2026_01", &mesh);
    let file = root.join("mesh.toml");
    symlink("..data/mesh.toml", &file).expect("cannot link");
    let proxy = mesh.start_with(folder, file);
    assert_eq!(name(&proxy), "a");
    mount(&root, "..2026_02", &lead_to(&proxy.mesh, &b));
    std::fs::remove_dir_all(root.join("..2026_01")).expect("cannot remove");
    soon_served_by(&proxy, "b");
    mount(&root, "..2026_03", &lead_to(&proxy.mesh, &a));
    soon_served_by(&proxy, "a");
}

#[test]
fn a_broken_edit_is_refused_and_the_old_state_kept() {
    if !have(&NEEDS) {
        return;
    }
    let (a, b) = (App::start("a"), App::start("b"));
    let mut proxy = Mesh::new().service("web.test", &[a.addr]).start();
    let good = proxy.mesh.render();
    for broken in [
        String::new(),
        good[..good.len() / 2].to_owned() + "\n[[[",
        good.replace("endpoints", "endpoint"),
        good.replace("[timeouts]", "[timeouts]\nconnect = \"soon\""),
    ] {
        let refused = || proxy.metric("proxy_mesh_reloads_total{result=\"refused\"}");
        let before = refused();
        std::fs::write(&proxy.file, broken).expect("cannot write");
        eventually("the edit is refused", SOON, || (refused() > before).then_some(()));
        assert!(proxy.log().contains("refused"));
        assert_eq!(name(&proxy), "a");
    }
    // Not even its absence stops anything.
    std::fs::remove_file(&proxy.file).expect("cannot remove");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(name(&proxy), "a");
    // The twin: an edit that is good.
    proxy.rewrite_in_place(&lead_to(&proxy.mesh, &b));
    soon_served_by(&proxy, "b");
    proxy.assert_alive();
}

#[test]
fn a_changed_listener_needs_a_restart_and_the_rest_takes_effect() {
    if !have(&NEEDS) {
        return;
    }
    let (a, b) = (App::start("a"), App::start("b"));
    let proxy = Mesh::new().service("web.test", &[a.addr]).start();
    let mut next = lead_to(&proxy.mesh, &b);
    next.inbound = Mesh::new().inbound;
    proxy.rewrite_in_place(&next);
    soon_served_by(&proxy, "b");
    assert!(proxy.log().contains("restart"));
}

#[test]
fn timeouts_and_limits_take_effect() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("a");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let status = |url: &str| proxy.get(url).0;
    let applied = |count: u64| {
        eventually("the change is applied", SOON, || {
            let applied = proxy.metric("proxy_mesh_reloads_total{result=\"applied\"}");
            (applied == count).then_some(())
        });
    };
    let slow = "http://web.test/slow/2500";
    assert_eq!(status(slow), 200);
    let next = proxy.mesh.clone().timeout("response_headers = \"1s\"");
    proxy.rewrite_in_place(&next);
    applied(1);
    assert_eq!(status(slow), 504);
    // What is quicker passes.
    assert_eq!(status("http://web.test/slow/10"), 200);
    let long = format!("http://web.test/name?{}", "a".repeat(2000));
    assert_eq!(status(&long), 200);
    proxy.rewrite_in_place(&next.limit("target_bytes = 1000"));
    applied(2);
    assert_eq!(status(&long), 414);
    assert_eq!(name(&proxy), "a");
}

#[test]
fn a_removed_service_is_unknown_and_one_in_use_ends_well() {
    if !have(&NEEDS) {
        return;
    }
    let app = App::start("a");
    let proxy = Mesh::new().service("web.test", &[app.addr]).start();
    let to = proxy.outbound();
    let slow = std::thread::spawn(move || {
        let mut command = crate::common::curl(to, &["http://web.test/slow/3000"]);
        crate::common::run(&mut command, crate::common::PATIENCE)
    });
    eventually("the slow request is under way", SOON, || (app.requests() == 1).then_some(()));
    let other = App::start("other");
    proxy.rewrite_by_rename(&Mesh {
        services: vec![("other.test".into(), vec![other.addr], String::new())],
        ..proxy.mesh.clone()
    });
    eventually("the service is gone", SOON, || {
        (proxy.get("http://web.test/name").0 == 404).then_some(())
    });
    assert_eq!(proxy.get("http://other.test/name"), (200, "other".into()));
    assert_eq!(slow.join().expect("curl failed").ok().text(), "a");
}
