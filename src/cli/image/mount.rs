// SPDX-License-Identifier: Apache-2.0
//! `wharf image mount`: an image as a directory to look at.

use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::image::store::{Record, Store};
use crate::image::{Digest, Reference, mounts};
use crate::paths::Paths;

/// Mount an image read-only and print where, or list what is mounted
///
/// A mounted image is not removed. It stays mounted until 'wharf image unmount' or a reboot.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids; without one, print the list
    #[arg(value_name = "REF")]
    images: Vec<String>,
    /// Print images and directories as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct List {
    schema: u32,
    mounts: Vec<Mounted>,
}

#[derive(Serialize)]
struct Mounted {
    references: Vec<Reference>,
    digest: Digest,
    path: String,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let mut digests = Vec::new();
    for text in &args.images {
        let image = store.resolve(text)?;
        // Whoever removed the image before it was mounted did not see the mount.
        if let Err(err) = store.claim(&image, || mounts::mount(paths, &image).map(drop)) {
            mounts::unmount(paths, &image.digest.parse()?)?;
            return Err(err);
        }
        digests.push(image.digest.parse()?);
    }
    if args.images.is_empty() {
        digests = mounts::mounted(paths)?;
    }
    let records = store.records()?;
    let mounted: Vec<Mounted> = digests
        .into_iter()
        .map(|digest| describe(paths, &records, digest))
        .collect();
    let mut out = Out::stdout();
    if args.json {
        let list = List {
            schema: SCHEMA,
            mounts: mounted,
        };
        out.json(&list)?;
    } else if args.images.is_empty() {
        let mut table = Table::new(&["REFERENCE", "PATH"]);
        for mount in &mounted {
            let names: Vec<String> = mount.references.iter().map(Reference::familiar).collect();
            let name = match names.as_slice() {
                [] => "<none>".to_owned(),
                names => names.join(", "),
            };
            table.push(vec![
                Cell::new(&name, Colour::Plain),
                Cell::new(&mount.path, Colour::Plain),
            ]);
        }
        out.table(&table)?;
    } else {
        for mount in &mounted {
            out.line(&mount.path)?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn describe(paths: &Paths, records: &[Record], digest: Digest) -> Mounted {
    let names = records.iter().filter(|record| record.digest == digest);
    Mounted {
        references: names.filter_map(|r| r.reference.clone()).collect(),
        digest,
        path: mounts::target(paths, &digest).display().to_string(),
    }
}
