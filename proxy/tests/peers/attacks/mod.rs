//! Hostile clients of HTTP/2 against the binary, and honest ones that look like them. The frames of
//! both are those that `http2_attacks` sends to a connection in memory.

mod crew;
mod fair;
mod flood;
mod hold;
mod honest;
mod watch;

use std::net::SocketAddr;

use crate::common::{App, Mesh, Proxy};

/// A proxy, and an app behind it that canaries ask.
struct World {
    proxy: Proxy,
    /// The app of `canary.test`.
    canary: App,
}

impl World {
    /// `app` is that of `a.example`, which attacks are about. `http2`: it is spoken to in that.
    fn new(app: SocketAddr, http2: bool, more: impl FnOnce(Mesh) -> Mesh) -> Self {
        let canary = App::start("canary");
        let mesh = Mesh::new()
            .service("a.example", &[app])
            .speaks(version(http2))
            .service("canary.test", &[canary.addr]);
        World { proxy: more(mesh).start(), canary }
    }
}

fn version(http2: bool) -> &'static str {
    if http2 { "h2" } else { "http1" }
}
