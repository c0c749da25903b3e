// SPDX-License-Identifier: Apache-2.0
//! `wharf wait`: block until containers have ended, and end as they did.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::terminal::Out;
use crate::engine::control::wait;

const EXAMPLES: &str = "\
Examples:
  wharf wait job && wharf start report    as a shell's 'wait'
  code=$(wharf wait job)                  the code alone, whatever it is";

/// Wait until containers have ended; prints each exit code and ends with the last one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Waits for them, one after the other.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    let mut out = Out::stdout();
    let mut last = 0;
    let status = jobs::each(context, &args.names.names, |name| {
        last = wait::wait(context.container(name)?)?;
        out.line(&last.to_string())?;
        Ok(out.flush()?)
    });
    Ok(match status {
        ExitStatus::Success => ExitStatus::Payload(last),
        failed => failed,
    })
}
