// SPDX-License-Identifier: Apache-2.0
//! wharf(1): parse the command line, run the verb, turn an error into an exit status.
//!
//! No behaviour lives here; each verb is a file below `cli`.

use std::process::ExitCode;

use clap::Parser as _;
use wharf::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging(&cli);
    match cli::run(&cli) {
        Ok(status) => status.into(),
        Err(err) if cli::is_closed_pipe(&err) => ExitCode::SUCCESS,
        Err(err) => cli::report(&err).into(),
    }
}
