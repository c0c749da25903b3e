// SPDX-License-Identifier: Apache-2.0
//! `wharf reload`: the reload job of the container's unit, as its definition's `reload` says.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::control::jobs::{Order, Task};
use crate::engine::run::reload;

/// Make containers reload their own configuration, as 'reload' in the definition says
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Run the definition's reload command now; the unit does so
    #[arg(long)]
    foreground: bool,
}

/// Reloads them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    if args.foreground {
        context.require_machine()?;
        for name in args.names.names.iter() {
            reload::run(context.container(name)?)?;
        }
        return Ok(ExitStatus::Success);
    }
    let control = jobs::connect(context)?;
    let names = args.names.names.as_slice();
    jobs::refresh(&control, names)?;
    let order = Order {
        task: Task::Reload,
        names,
        limit: None,
    };
    jobs::carry_out(context, &control, order)
}
