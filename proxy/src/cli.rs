//! The command line.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use selvedge_core::config::ListenerKind;
use selvedge_core::time::parse_duration;

use crate::log::Format;
use crate::run;
use crate::{ca_command, demo};
use selvedge::ca;
use selvedge::mesh::{MAX_WORKERS, Mesh};

/// Bad usage or configuration (sysexits.h `EX_USAGE`, as linkerd2-proxy).
pub(crate) const BAD_CONFIG: u8 = 64;

/// A micro-proxy for service meshes.
#[derive(Debug, Parser)]
#[command(name = "selvedge", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve what a mesh file says, until SIGTERM or SIGINT
    Run(RunArgs),
    /// Say everything that is wrong with a mesh file
    Check {
        /// The mesh file
        #[arg(long, value_name = "FILE")]
        mesh: PathBuf,
    },
    /// A certificate authority for machines without a control plane
    #[command(subcommand)]
    Ca(CaCommand),
    /// Show on loopback what Selvedge does with a slow app and with one that crashes
    Demo {
        /// How many requests to send; up to about 25000 take 15 s
        #[arg(
            long,
            value_name = "N",
            default_value_t = 10_000,
            value_parser = clap::value_parser!(u64).range(demo::REQUESTS)
        )]
        requests: u64,
        /// Make gRPC calls over HTTP/2 instead of GETs over HTTP/1.1
        #[arg(long)]
        grpc: bool,
        /// Without mutual TLS and the Selvedges in front of the apps; says what a request costs
        #[arg(long)]
        plain: bool,
        /// Print the figures as one JSON object
        #[arg(long)]
        json: bool,
    },
}

/// `selvedge ca …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a new one: DIR/ca.crt, which is to be trusted, and DIR/ca.key, which is to be kept
    Init {
        /// The folder. It is made if it is missing; what is in it is not overwritten
        dir: PathBuf,
        /// What it signs for: DNS names that end in it, and spiffe://DOMAIN/…
        #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
        trust_domain: String,
    },
    /// Sign for every proxy on this machine that asks, until SIGTERM or SIGINT
    Serve(ServeArgs),
}

/// What `selvedge ca serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The folder, as `selvedge ca init` makes it
    pub dir: PathBuf,
    /// Where to listen: on loopback, because whoever can ask is given any name
    #[arg(long, value_name = "IP:PORT", value_parser = loopback)]
    pub listen: SocketAddr,
    /// How long what it signs is good for
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    pub lifetime: Duration,
    /// A level (error, warn, info, debug, trace), or levels by module: warn,selvedge=debug
    #[arg(long, value_name = "FILTER", env = "SELVEDGE_LOG", default_value = "info")]
    pub log: String,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", env = "SELVEDGE_LOG_FORMAT", default_value = "plain")]
    pub log_format: Format,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let addr: Option<SocketAddr> = text.parse().ok();
    addr.filter(|addr| addr.ip().is_loopback())
        .ok_or_else(|| "expected ip:port on loopback, like 127.0.0.1:4190".into())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let range = ca::MIN_LIFETIME..=ca::MAX_LIFETIME;
    parse_duration(text)
        .filter(|lifetime| range.contains(lifetime))
        .ok_or_else(|| r#"expected a duration from "20s" to "365d", like "24h""#.into())
}

/// What `selvedge run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The mesh file. It is watched: most changes take effect at once
    #[arg(long, value_name = "FILE")]
    pub mesh: PathBuf,
    /// Worker threads [default: what the mesh file says, or 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_WORKERS))]
    pub workers: Option<u64>,
    /// A level (error, warn, info, debug, trace), or levels by module: warn,selvedge=debug
    #[arg(long, value_name = "FILTER", env = "SELVEDGE_LOG", default_value = "info")]
    pub log: String,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", env = "SELVEDGE_LOG_FORMAT", default_value = "plain")]
    pub log_format: Format,
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { BAD_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match command {
        Command::Run(args) => run::run(&args),
        Command::Check { mesh } => check(&mesh),
        Command::Ca(command) => ca_command::run(&command),
        Command::Demo { requests, grpc, plain, json } => {
            let wire = if grpc { demo::Wire::Grpc } else { demo::Wire::Http1 };
            demo::run(requests, wire, plain, json)
        }
    }
}

/// Reads a mesh file and its text. On failure: a line for each thing that is wrong.
pub(crate) fn read(path: &Path) -> Result<(Mesh, String), Vec<String>> {
    let file = path.display();
    let text = fs::read_to_string(path).map_err(|error| vec![format!("{file}: {error}")])?;
    Ok((parse(path, &text)?, text))
}

/// Reads the text of a mesh file that is at `path`.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Mesh, Vec<String>> {
    let located = |problem: &dyn Display| format!("{}:{problem}", path.display());
    let mut mesh = Mesh::parse(text).map_err(|problems| -> Vec<_> {
        problems.iter().map(|problem| located(problem)).collect()
    })?;
    let problems = mesh.settle(path.parent().unwrap_or(Path::new("")));
    if problems.is_empty() {
        return Ok(mesh);
    }
    Err(problems.iter().map(|problem| located(&format!(" {problem}"))).collect())
}

fn check(path: &Path) -> ExitCode {
    match read(path) {
        Ok((mesh, _)) => {
            println!("{}: ok\n{}", path.display(), summary(&mesh));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in problems {
                eprintln!("{problem}");
            }
            ExitCode::from(BAD_CONFIG)
        }
    }
}

/// What a mesh file amounts to.
fn summary(mesh: &Mesh) -> String {
    let config = &mesh.config;
    let is_forward = |kind: &ListenerKind| matches!(kind, ListenerKind::Forward(_));
    let forwards = config.listeners.iter().filter(|l| is_forward(&l.kind)).count();
    let endpoints: usize = config.services.iter().map(|s| s.endpoints.len()).sum();
    let plural = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    format!(
        "  outbound {}, inbound {}, admin {}\n  {} and {} with {}",
        config.listeners[0].addr,
        config.listeners[1].addr,
        mesh.admin,
        plural(config.services.len() - forwards, "service"),
        plural(forwards, "TCP forward"),
        plural(endpoints, "endpoint"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_understood() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let run = parse("selvedge run --mesh a.toml --workers 2 --log debug --log-format json");
        let Ok(Command::Run(args)) = run else { panic!("{run:?}") };
        assert_eq!(args.mesh, Path::new("a.toml"));
        assert_eq!(args.workers, Some(2));
        assert_eq!(args.log, "debug");
        assert_eq!(args.log_format, Format::Json);
        assert!(parse("selvedge run").is_err());
        assert!(parse("selvedge run --mesh a --workers 0").is_err());
        assert!(parse("selvedge run --mesh a --log-format xml").is_err());
        assert!(parse("selvedge check --mesh a --workers 1").is_err());
        let demo = parse("selvedge demo");
        let Ok(Command::Demo { requests, grpc, plain, json }) = demo else { panic!("{demo:?}") };
        assert_eq!((requests, grpc, plain, json), (10_000, false, false, false));
        let demo = parse("selvedge demo --requests 1000 --grpc --plain --json");
        let Ok(Command::Demo { requests, grpc, plain, json }) = demo else { panic!("{demo:?}") };
        assert_eq!((requests, grpc, plain, json), (1_000, true, true, true));
        assert!(parse("selvedge demo --requests 999").is_err());
        let serve = parse("selvedge ca serve d --listen 127.0.0.1:0 --lifetime 90s");
        let Ok(Command::Ca(CaCommand::Serve(args))) = serve else { panic!("{serve:?}") };
        assert_eq!(args.lifetime, Duration::from_secs(90));
        for bad in ["--listen 0.0.0.0:1", "--listen 127.0.0.1:0 --lifetime 19s", ""] {
            assert!(parse(&format!("selvedge ca serve d {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_summary_counts() {
        let mesh = Mesh::parse(include_str!("mesh/reference.toml")).unwrap();
        assert_eq!(
            summary(&mesh),
            "  outbound 127.0.0.1:4140, inbound 127.0.0.1:4143, admin 127.0.0.1:4191\n  \
             2 services and 1 TCP forward with 7 endpoints"
        );
    }
}
