// SPDX-License-Identifier: Apache-2.0
//! `wharf image rm`: remove names, and content that nothing refers to any more.

use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::terminal::{Out, escape};
use crate::engine::images::needs;
use crate::image::remove;
use crate::image::size::Stored;

/// Remove images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References, or ids to remove all names of an image
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
    /// An image that is not there is no error; one that is running or mounted is refused all the same
    #[arg(short, long)]
    force: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: u32,
    /// Names, or digests of images without one.
    removed: Vec<String>,
    freed_bytes: u64,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = needs::store(paths)?;
    let before = Stored::load(&store)?;
    let writer = store.write()?;
    let mut out = Out::stdout();
    let mut removed = Vec::new();
    let mut first = None;
    for image in &args.images {
        if args.force && remove::is_absent(&store, image) {
            continue;
        }
        match remove::remove(&writer, image) {
            Ok(names) => {
                for name in names {
                    if !args.json {
                        out.line(&escape(&format!("removed {name}")))?;
                    }
                    removed.push(name);
                }
            }
            // The others are removed all the same; content goes below.
            Err(err) => first = first.or(Some(err)),
        }
    }
    writer.collect()?;
    super::note_hindrance(&store);
    if args.json {
        let report = Report {
            schema: SCHEMA,
            removed,
            freed_bytes: before.freed(&Stored::load(&store)?),
        };
        out.json(&report)?;
    }
    out.flush()?;
    first.map_or(Ok(ExitStatus::Success), Err)
}
