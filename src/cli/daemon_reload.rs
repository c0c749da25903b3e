// SPDX-License-Identifier: Apache-2.0
//! `wharf daemon-reload`: run the generators again, as systemctl(1) does.

use super::Context;
use super::exit::ExitStatus;
use crate::engine::control::jobs;

/// Make systemd read the definitions again; start, restart and reload do so as needed
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Reloads the manager.
pub fn run(context: &Context, _args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    jobs::reload(context.paths()?)?;
    Ok(ExitStatus::Success)
}
