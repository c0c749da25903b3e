// SPDX-License-Identifier: Apache-2.0
//! `wharf unmount`: undo `wharf mount`.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use crate::engine::files::mount;

/// Unmount what 'wharf mount' has mounted; what is not mounted is left alone
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Unmounts them.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    Ok(jobs::each(context, &args.names.names, |name| {
        mount::unmount(context.container(name)?).map(drop)
    }))
}
