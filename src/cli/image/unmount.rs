// SPDX-License-Identifier: Apache-2.0
//! `wharf image unmount`: undo `wharf image mount`.

use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, ExitStatus};
use crate::cli::output::SCHEMA;
use crate::cli::terminal::Out;
use crate::image::store::Store;
use crate::image::{Digest, mounts};

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

#[derive(Serialize)]
struct Unmounted {
    schema: u32,
    unmounted: Vec<Digest>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let mounted = mounts::mounted(paths)?;
    let digests = if args.all {
        mounted
    } else {
        let store = Store::open(paths)?;
        let find = |text: &String| find(&store, &mounted, text);
        args.images.iter().map(find).collect::<Result<_, _>>()?
    };
    let mut unmounted = Vec::new();
    let mut first = None;
    for digest in digests {
        match mounts::unmount(paths, &digest) {
            Ok(true) => unmounted.push(digest),
            Ok(false) => {}
            // The others are unmounted all the same.
            Err(err) => first = first.or(Some(err)),
        }
    }
    if args.json {
        let mut out = Out::stdout();
        let report = Unmounted {
            schema: SCHEMA,
            unmounted,
        };
        out.json(&report)?;
        out.flush()?;
    }
    first.map_or(Ok(ExitStatus::Success), Err)
}

/// What the store calls so, or else what is mounted and has an id that begins so: the image may be
/// damaged by now.
fn find(store: &Store, mounted: &[Digest], text: &str) -> anyhow::Result<Digest> {
    let err = match store.find(text) {
        Ok((_, digest)) => return Ok(digest),
        Err(err) => err,
    };
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let mut found = mounted
        .iter()
        .filter(|digest| hex.len() >= 12 && digest.hex().starts_with(hex));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(*only),
        (Some(_), Some(_)) => Err(Exit::usage(format!("'{hex}' begins several ids")).into()),
        (None, _) => Err(err),
    }
}
