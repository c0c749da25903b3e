// SPDX-License-Identifier: Apache-2.0
//! `wharf image diff`: which paths differ between two images, or what the last layer changed.

use std::os::unix::ffi::OsStrExt as _;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::image::Differences;
use crate::cli::terminal::{Colour, Out, escape_bytes};
use crate::engine::difference::Difference;
use crate::engine::images::describe;

/// Show which paths differ between two images, or what the last layer of an image changed
///
/// 'A' is added, 'C' is changed, 'D' is deleted, with all that was below it. Times do not count.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    #[arg(value_name = "REF")]
    image: String,
    /// The image to compare with; without it, the image without its last layer is compared with
    /// all of it
    #[arg(value_name = "OTHER")]
    other: Option<String>,
    /// Print the paths as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let changes = describe::differences(paths, &args.image, args.other.as_deref())?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&Differences::new(&changes))?;
    } else {
        for changed in &changes {
            let colour = match changed.difference {
                Difference::Added => Colour::Good,
                Difference::Changed => Colour::Between,
                Difference::Deleted => Colour::Bad,
            };
            let letter = changed.difference.letter();
            let path = escape_bytes(changed.path.as_os_str().as_bytes()).replace('\n', "\\n");
            let line = out.paint(&format!("{letter} {path}"), colour);
            out.line(&line)?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
