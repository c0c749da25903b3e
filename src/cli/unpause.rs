// SPDX-License-Identifier: Apache-2.0
//! `wharf unpause`: thaw what `pause` has frozen.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};

/// Let the processes of paused containers go on
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Unpauses them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    jobs::each_container(context, &args.names, |container| container.unpause())
}
