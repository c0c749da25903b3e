// SPDX-License-Identifier: Apache-2.0
//! `wharf reload`: the reload job of the container's unit, as its definition's `reload` says.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};

/// Make containers reload their own configuration, as 'reload' in the definition says
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Reloads them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let manager = jobs::connect(context)?;
    let names = args.names.names.as_slice();
    jobs::refresh(context, &manager, names)?;
    jobs::run_all(context, &manager, (names, None), |container, jobs| {
        container.queue_reload(jobs).map(Some)
    })
}
