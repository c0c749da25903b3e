// SPDX-License-Identifier: Apache-2.0
//! `wharf pause`: the freezer of the container's cgroup, through systemd.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};

/// Freeze every process of containers
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Pauses them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    jobs::each_container(context, &args.names, |container| container.pause())
}
