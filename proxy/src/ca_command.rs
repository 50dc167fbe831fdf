//! `selvedge ca`: makes a certificate authority, or serves one.

use std::process::ExitCode;
use std::time::SystemTime;

use selvedge::ca::Authority;
use tokio::net::TcpListener;
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::certify::server::Server;
use crate::cli::{BAD_CONFIG, CaCommand, ServeArgs};
use crate::log;

/// Exit codes: 0 done, 64 nothing to start from, 1 anything else.
pub(crate) fn run(command: &CaCommand) -> ExitCode {
    match command {
        CaCommand::Init { dir, trust_domain } => {
            match Authority::init(dir, trust_domain, SystemTime::now()) {
                Ok(_) => {
                    let dir = dir.display();
                    println!("{dir}/ca.crt: trust this\n{dir}/ca.key: keep this");
                    ExitCode::SUCCESS
                }
                Err(why) => {
                    eprintln!("{why}");
                    ExitCode::FAILURE
                }
            }
        }
        CaCommand::Serve(args) => serve(args),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let log = match log::init(&args.log, args.log_format) {
        Ok(log) => log,
        Err(why) => {
            eprintln!("--log: {why}");
            return ExitCode::from(BAD_CONFIG);
        }
    };
    let code = match Authority::load(&args.dir) {
        Ok(authority) => {
            let trust_domain = authority.trust_domain().to_owned();
            // The server reads it anew for each request.
            drop(authority);
            stay(args, &trust_domain).map_or_else(
                |error| {
                    error!("cannot serve: {error}");
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            )
        }
        Err(why) => {
            error!("{why}");
            ExitCode::from(BAD_CONFIG)
        }
    };
    log.flush();
    code
}

fn stay(args: &ServeArgs, trust_domain: &str) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = TcpListener::bind(args.listen).await?;
        let addr = listener.local_addr()?;
        info!(%addr, trust_domain, lifetime = ?args.lifetime, "signing");
        let server = Server::new(args.dir.clone(), args.lifetime);
        select! {
            () = server.serve(listener) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
