// SPDX-License-Identifier: Apache-2.0
//! `wharf pause`: the freezer of the container's cgroup, through systemd.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::lifecycle::Container;

/// Freeze every process of containers
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Pauses them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let manager = jobs::connect(context)?;
    Ok(jobs::each(context, &args.names.names, |name| {
        let container = Container {
            paths: &context.paths,
            manager: &manager,
            name,
        };
        container.pause()
    }))
}
