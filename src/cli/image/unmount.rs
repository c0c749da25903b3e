// SPDX-License-Identifier: Apache-2.0
//! `wharf image unmount`: undo `wharf image mount`.

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::store::Unmounted;
use crate::cli::terminal::Out;
use crate::engine::images::mounts;

/// Unmount images that 'wharf image mount' has mounted; one that is not mounted is no error
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids
    #[arg(value_name = "REF", required_unless_present = "all")]
    images: Vec<String>,
    /// All that are mounted
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Print what was unmounted as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let images = (!args.all).then_some(args.images.as_slice());
    let unmounted = mounts::unmount(context.paths()?, images)?;
    if args.json {
        let mut out = Out::stdout();
        out.json(&Unmounted::new(unmounted.images))?;
        out.flush()?;
    }
    unmounted.error.map_or(Ok(ExitStatus::Success), Err)
}
