// SPDX-License-Identifier: Apache-2.0
//! `wharf stop`: the stop job of the container's unit.

use std::time::Duration;

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::control::jobs::{Order, Task};

const EXAMPLES: &str = "\
Examples:
  wharf stop web          as its definition says: stop_signal, then SIGKILL after stop_timeout
  wharf stop -t 2 web     SIGKILL after two seconds
  wharf stop -t 0 web     SIGKILL at once";

/// Stop containers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Kill what has not ended after this long; it can shorten 'stop_timeout', not extend it
    #[arg(short = 't', long = "time", value_name = "SECONDS")]
    time: Option<u32>,
}

/// Stops them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let control = jobs::connect(context)?;
    let limit = args.time.map(|seconds| Duration::from_secs(seconds.into()));
    let names = args.names.names.as_slice();
    let order = Order {
        task: Task::Stop,
        names,
        limit,
    };
    jobs::carry_out(context, &control, order)
}
