// SPDX-License-Identifier: Apache-2.0
//! `wharf restart`: the restart job of the container's unit.

use std::time::Duration;

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::control::jobs::{Order, Task};

/// Restart containers; those that do not run are started
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Kill what has not ended after this long; it can shorten 'stop_timeout', not extend it
    #[arg(short = 't', long = "time", value_name = "SECONDS")]
    time: Option<u32>,
}

/// Restarts them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let control = jobs::connect(context)?;
    let names = args.names.names.as_slice();
    jobs::refresh(&control, names)?;
    let limit = args.time.map(|seconds| Duration::from_secs(seconds.into()));
    let order = Order {
        task: Task::Restart,
        names,
        limit,
    };
    jobs::carry_out(context, &control, order)
}
