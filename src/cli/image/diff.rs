// SPDX-License-Identifier: Apache-2.0
//! `wharf image diff`: which paths differ between two images, or what the last layer changed.

use std::os::unix::ffi::OsStrExt as _;

use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::terminal::{Colour, Out, escape_bytes};
use crate::image::Digest;
use crate::image::store::Store;
use crate::storage::merged::{self, Difference, Kind};

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

#[derive(Serialize)]
struct Report {
    schema: u32,
    changes: Vec<Changed>,
}

#[derive(Serialize)]
struct Changed {
    kind: Kind,
    /// Bytes that are not UTF-8 are replaced.
    path: String,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let layers = |text: &str| -> anyhow::Result<Vec<Digest>> {
        let (_, digest) = store.find(text)?;
        Ok(store.documents(&digest)?.config.diff_ids)
    };
    let first = layers(&args.image)?;
    let (from, to) = match &args.other {
        Some(other) => (first, layers(other)?),
        None => {
            let below = first.split_last().map(|(_, below)| below.to_vec());
            (below.unwrap_or_default(), first)
        }
    };
    let differences = merged::diff(store.layers_dir(), &from, &to)?;
    let mut out = Out::stdout();
    if args.json {
        let report = Report {
            schema: SCHEMA,
            changes: differences.into_iter().map(Changed::from).collect(),
        };
        out.json(&report)?;
    } else {
        for Difference { kind, path } in &differences {
            let (letter, colour) = match kind {
                Kind::Added => ("A", Colour::Good),
                Kind::Changed => ("C", Colour::Between),
                Kind::Deleted => ("D", Colour::Bad),
            };
            let path = escape_bytes(path.as_os_str().as_bytes()).replace('\n', "\\n");
            let line = out.paint(&format!("{letter} {path}"), colour);
            out.line(&line)?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

impl From<Difference> for Changed {
    fn from(difference: Difference) -> Self {
        Self {
            kind: difference.kind,
            path: difference.path.display().to_string(),
        }
    }
}
