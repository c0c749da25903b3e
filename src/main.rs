// SPDX-License-Identifier: Apache-2.0
//! wharf(1): parse the command line, run the verb, turn an error into an exit status.
//!
//! No behaviour lives here; each verb is a file below `cli`.

use std::process::ExitCode;

use tracing::level_filters::LevelFilter;
use wharf::cli::{self, Cli};
use wharf::journal::log::{self, Target};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    start_logging(cli.log_level());
    match cli.run() {
        Ok(status) => status.into(),
        Err(err) if cli::is_closed_pipe(&err) => ExitCode::SUCCESS,
        Err(err) => cli::report(&err).into(),
    }
}

/// Sends what the process logs to the journal under systemd, else to standard error.
fn start_logging(level: LevelFilter) {
    let installed = log::install(Target::detect(), level);
    // Without a journal to log to there still is the container to start.
    if installed.is_err() {
        log::install(Target::StandardError, level).ok();
    }
}
