//! The Selvedge sidecar.

mod admin;
mod cli;
mod demo;
mod log;
mod run;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
