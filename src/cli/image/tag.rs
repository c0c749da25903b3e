// SPDX-License-Identifier: Apache-2.0
//! `wharf image tag`: another name for an image.

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::store::Tagged;
use crate::cli::terminal::Out;
use crate::engine::images::names;
use crate::reference::Reference;

/// Give an image another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    image: String,
    /// The new name; an image that has it keeps its content, under no name
    #[arg(value_name = "REF")]
    name: Reference,
    /// Print the name and the image as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let digest = names::tag(context.paths()?, &args.image, &args.name)?;
    if args.json {
        let mut out = Out::stdout();
        out.json(&Tagged::new(&args.name, digest))?;
        out.flush()?;
    }
    Ok(ExitStatus::Success)
}
