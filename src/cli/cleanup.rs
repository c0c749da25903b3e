// SPDX-License-Identifier: Apache-2.0
//! `wharf cleanup`: what the unit runs after a run (`ExecStopPost=`).

use super::Context;
use super::exit::ExitStatus;
use crate::engine::run::cleanup;
use crate::name::ContainerName;

const STEPS: &str = "\
The container's unit runs this; by hand it removes what a container that is not running left.";

/// Clean up after a container's run
#[derive(Debug, clap::Args)]
#[command(after_help = STEPS)]
pub struct Args {
    /// The container
    name: ContainerName,
}

/// Cleans up.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    cleanup::cleanup(context.container(&args.name)?)?;
    Ok(ExitStatus::Success)
}
