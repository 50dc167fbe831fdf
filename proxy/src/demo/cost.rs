//! What a request costs Selvedge's own threads, in cleartext and in mutual TLS.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use super::app::App;
use super::client::Load;
use super::wire::Wire;
use super::{AUTHORITY, Outbound};
use crate::demo::mesh::Mesh;

/// The rate at which it is measured: what a request costs depends on it.
const RATE: u64 = 3_000;
/// Before that, and not counted: connections and handshakes.
const WARM_UP: u64 = 300;

/// CPU time of one request, user and system.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cost {
    /// client → Selvedge → app.
    plain: Duration,
    /// client → Selvedge ⇒ Selvedge → app: both of them.
    meshed: Duration,
}

/// Measures both, in about three seconds. `None` where the system does not say what a thread costs.
///
/// # Errors
/// There is no port or no thread.
pub(super) async fn measure(wire: Wire) -> io::Result<Option<Cost>> {
    let Some(plain) = one(wire, None).await? else { return Ok(None) };
    let meshed = one(wire, Some(Mesh::new()?)).await?;
    Ok(meshed.map(|meshed| Cost { plain, meshed }))
}

async fn one(wire: Wire, mesh: Option<Mesh>) -> io::Result<Option<Duration>> {
    let app = App::bind("app", Duration::ZERO, wire).await?;
    let pod = mesh.as_ref().map(|mesh| mesh.pod(app.addr)).transpose()?;
    let addr = pod.as_ref().map_or(app.addr, |pod| pod.addr);
    let outbound = Outbound::start(&[addr], mesh.as_ref())?;
    tokio::spawn(app.serve());
    let load = |requests| Load {
        proxy: outbound.addr,
        wire,
        insists: false,
        authority: AUTHORITY,
        requests,
        duration: Duration::from_secs(1).mul_f64(requests as f64 / RATE as f64),
        half_way: Arc::new(Notify::new()),
        progress: ProgressBar::hidden(),
    };
    load(WARM_UP).run().await;
    let before = used();
    load(RATE).run().await;
    let spent = used().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(spent.map(|spent| spent / RATE as u32))
}

/// CPU time so far of all threads that are Selvedge's.
fn used() -> Option<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if comm.starts_with("selvedge-") {
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            nanos += stat.split(' ').next()?.parse::<u64>().ok()?;
        }
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

impl Cost {
    pub(super) fn to_json(&self) -> Json {
        let micros = |cost: Duration| cost.as_nanos() as f64 / 1e3;
        json!({
            "rate": RATE,
            "plain_us": micros(self.plain),
            "meshed_us": micros(self.meshed),
        })
    }
}

impl Display for Cost {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let micros = |cost: Duration| format!("{:.0} µs", cost.as_nanos() as f64 / 1e3);
        writeln!(f, "\n  CPU of Selvedge for one request, at {RATE} a second")?;
        writeln!(f, "  client ---> selvedge ---> app                {:>9}", micros(self.plain))?;
        writeln!(f, "  client ---> selvedge ===> selvedge ---> app  {:>9}", micros(self.meshed))
    }
}
