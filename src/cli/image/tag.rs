// SPDX-License-Identifier: Apache-2.0
//! `wharf image tag`: another name for an image.

use crate::cli::exit::ExitStatus;
use crate::image::Reference;
use crate::image::store::Store;
use crate::paths::Paths;

/// Give an image another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    image: String,
    /// The new name; an image that has it keeps its content, under no name
    #[arg(value_name = "REF")]
    name: Reference,
}

pub(super) fn run(paths: &Paths, args: &Args) -> anyhow::Result<ExitStatus> {
    let store = Store::open(paths)?;
    let writer = store.write()?;
    let (_, digest) = store.find(&args.image)?;
    writer.set_reference(&args.name, &digest)?;
    Ok(ExitStatus::Success)
}
