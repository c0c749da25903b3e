// SPDX-License-Identifier: Apache-2.0
//! `wharf unpause`: thaw what `pause` has frozen.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::lifecycle::Container;

/// Let the processes of paused containers go on
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Unpauses them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let manager = jobs::connect(context)?;
    Ok(jobs::each(context, &args.names.names, |name| {
        let container = Container {
            paths: &context.paths,
            manager: &manager,
            name,
        };
        container.unpause()
    }))
}
