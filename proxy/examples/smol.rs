//! What `selvedge run` does with a mesh file, on smol instead of tokio, and without the rest of the
//! sidecar: no admin server, no signals, no changes while it runs. A line on its standard input
//! drains it.
//!
//! `cargo run --release -p selvedge --example smol -- mesh.toml`

use std::process::ExitCode;
use std::sync::Arc;

use selvedge::mesh;
use selvedge_core::config::ListenerKind;
use selvedge_smol::{Options, bind, raise_descriptor_limit};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: smol MESH-FILE");
        return ExitCode::from(64);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return failed(format_args!("{}: {error}", path.display())),
    };
    match mesh::Mesh::parse(&text) {
        Ok(mesh) => run(mesh).unwrap_or_else(|error| failed(format_args!("{error}"))),
        Err(problems) => {
            for problem in problems {
                eprintln!("{}:{problem}", path.display());
            }
            ExitCode::from(64)
        }
    }
}

fn run(mesh: mesh::Mesh) -> Result<ExitCode, Box<dyn std::error::Error>> {
    raise_descriptor_limit()?;
    let options = Options {
        workers: mesh.workers.unwrap_or(1),
        keepalive: mesh.sockets.keepalive,
        user_timeout: mesh.sockets.user_timeout,
        backlog: mesh.sockets.backlog,
    };
    let bound = bind(&mesh.config, &options)?;
    let mut config = mesh.config;
    for (listener, &addr) in config.listeners.iter_mut().zip(bound.local_addrs()) {
        // With the port that the system chose.
        listener.addr = addr;
        let kind = match &listener.kind {
            ListenerKind::Outbound => "outbound",
            ListenerKind::Inbound => "inbound",
            ListenerKind::Forward(_) => "tcp",
        };
        println!("listening: {kind} {addr}");
    }
    let mut workers = bound.serve(&Arc::new(config), |event| println!("{event:?}"))?;
    let handles = workers.handles().to_vec();
    std::thread::spawn(move || {
        // The end of the input is no line: started in the background, it runs on.
        if matches!(std::io::stdin().read_line(&mut String::new()), Ok(1..)) {
            for worker in &handles {
                worker.drain();
            }
        }
    });
    async_io::block_on(workers.ended())?;
    Ok(ExitCode::SUCCESS)
}

fn failed(why: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("{why}");
    ExitCode::FAILURE
}
