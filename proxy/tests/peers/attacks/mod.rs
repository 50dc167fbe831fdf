//! Hostile clients of HTTP/2 against the binary, and honest ones that look like them. The frames of
//! both are those that `http2_attacks` sends to a connection in memory.

mod fair;
mod flood;
mod hold;
mod honest;
mod watch;

use crate::common::{App, Mesh, Proxy};

/// A proxy, and apps behind it.
struct World {
    proxy: Proxy,
    /// The app of `a.example`, which attacks are about …
    app: App,
    /// … and the one of `canary.test`.
    _canary: App,
}

impl World {
    /// `http2`: the app of `a.example` is spoken to in that.
    fn new(http2: bool, more: impl FnOnce(Mesh) -> Mesh) -> Self {
        let app = App::start("app");
        let canary = App::start("canary");
        let mesh = Mesh::new()
            .service("a.example", &[app.addr])
            .speaks(version(http2))
            .service("canary.test", &[canary.addr]);
        World { proxy: more(mesh).start(), app, _canary: canary }
    }
}

fn version(http2: bool) -> &'static str {
    if http2 { "h2" } else { "http1" }
}
