// SPDX-License-Identifier: Apache-2.0
//! `wharf kill`: a signal to the container's main process.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::definition::value::Signal;

const EXAMPLES: &str = "\
Examples:
  wharf kill web            SIGKILL; whether it is started again is up to 'restart'
  wharf kill -s HUP web     what many servers take as 'read your configuration again'";

/// Send a signal to the main process of containers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// The signal: a name with or without SIG, RTMIN+N, or a number
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,
}

/// Sends it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    jobs::each_container(context, &args.names, |container| {
        container.kill(args.signal.number)
    })
}
