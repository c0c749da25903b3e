// SPDX-License-Identifier: Apache-2.0
//! `wharf image inspect`: what an image says about itself and what it takes up, as JSON.

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::image::{Images, Inspected};
use crate::cli::terminal::Out;
use crate::engine::images::describe;

/// Print what an image says about itself, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
    /// Print JSON, which is the default and the only format
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let images = describe::inspect(paths, &args.images)?;
    let mut out = Out::stdout();
    out.json(&Images::<Inspected>::new(images))?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
