// SPDX-License-Identifier: Apache-2.0
//! `wharf start`: the start job of the container's unit.
//!
//! With `--foreground` this process becomes the engine instead; that is what the unit runs, and no
//! D-Bus connection is made on that path.

use super::Context;
use super::exit::{Exit, ExitStatus};
use super::jobs::{self, Names};
use crate::engine::control::jobs::{Order, Task};
use crate::engine::run::start;
use crate::name::ContainerName;

const EXAMPLES: &str = "\
Examples:
  wharf start web db              both, as one transaction each; the same as systemctl start
  wharf start --foreground web    in this shell; ends with the container's exit code";

/// Start containers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Run one container here instead of asking systemd; its unit does so
    #[arg(long)]
    foreground: bool,
}

/// Starts them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    let names = &args.names.names;
    if args.foreground {
        let [name] = names.as_slice() else {
            return Err(Exit::usage("'--foreground' takes one container").into());
        };
        return foreground(context, name);
    }
    let control = jobs::connect(context)?;
    jobs::refresh(&control, names)?;
    let order = Order {
        task: Task::Start,
        names,
        limit: None,
    };
    jobs::carry_out(context, &control, order)
}

/// Runs one container here, or in its unit when systemd runs us.
fn foreground(context: &Context, name: &ContainerName) -> anyhow::Result<ExitStatus> {
    let status = start::foreground(context.container(name)?).map_err(|err| Exit {
        status: ExitStatus::Payload(start::exit_status(&err)),
        message: format!("{err:#}"),
    })?;
    Ok(ExitStatus::Payload(status))
}
