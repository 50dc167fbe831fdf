//! The Selvedge sidecar.

mod admin;
mod ca_command;
mod certify;
mod cli;
mod demo;
mod float;
mod http_io;
mod log;
mod memory;
mod run;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
