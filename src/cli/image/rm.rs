// SPDX-License-Identifier: Apache-2.0
//! `wharf image rm`: remove names, and content that nothing refers to any more.

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::store::Untagged;
use crate::cli::terminal::{Out, escape};
use crate::engine::images::names::{self, Absent};

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let absent = match args.force {
        true => Absent::Passes,
        false => Absent::Fails,
    };
    let removed = names::remove(context.paths()?, &args.images, absent)?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&Untagged::new(removed.names, removed.freed))?;
    } else {
        for name in &removed.names {
            out.line(&escape(&format!("removed {name}")))?;
        }
    }
    out.flush()?;
    super::note_hindrance(removed.hindrance.as_deref());
    removed.error.map_or(Ok(ExitStatus::Success), Err)
}
