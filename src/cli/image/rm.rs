// SPDX-License-Identifier: Apache-2.0
//! `wharf image rm`: remove names, and content that nothing refers to any more.

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::Out;
use crate::image::Reference;
use crate::image::store::Store;
use crate::paths::Paths;

/// Remove images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References, or ids to remove all names of an image
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
}

pub(super) fn run(paths: &Paths, args: &Args) -> anyhow::Result<ExitStatus> {
    let store = Store::open(paths)?;
    let in_use = super::in_use(paths)?;
    let writer = store.write()?;
    let mut out = Out::stdout();
    let mut first = None;
    for image in &args.images {
        match writer.remove(image, &in_use) {
            Ok(removed) => {
                for record in removed {
                    let name = record.reference.as_ref().map(Reference::familiar);
                    let name = name.unwrap_or_else(|| record.digest.to_string());
                    out.line(&format!("removed {name}"))?;
                }
            }
            // The others are removed all the same; content goes below.
            Err(err) => first = first.or(Some(err)),
        }
    }
    writer.collect()?;
    out.flush()?;
    first.map_or(Ok(ExitStatus::Success), Err)
}
