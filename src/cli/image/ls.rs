// SPDX-License-Identifier: Apache-2.0
//! `wharf image ls`: what is in the store.

use serde::Serialize;

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::image::store::{Record, Store};
use crate::image::{Digest, Reference};
use crate::paths::Paths;
use crate::storage::layer;

/// List the images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// One image of the list.
#[derive(Serialize)]
struct Listed {
    reference: Option<Reference>,
    /// The manifest's.
    digest: Digest,
    /// The config's digest; none when the image is damaged.
    id: Option<Digest>,
    created: Option<String>,
    layers: usize,
    /// Unpacked; layers that images share count in each of them.
    bytes: u64,
    /// Why the image cannot be run.
    problem: Option<String>,
}

pub(super) fn run(paths: &Paths, args: &Args) -> anyhow::Result<ExitStatus> {
    let store = Store::open(paths)?;
    let images: Vec<Listed> = store
        .records()?
        .into_iter()
        .map(|record| list(&store, record))
        .collect();
    let mut out = Out::stdout();
    if args.json {
        out.line(&serde_json::to_string_pretty(&images)?)?;
    } else {
        let mut table = Table::new(&["REFERENCE", "ID", "CREATED", "LAYERS", "SIZE"]);
        for image in &images {
            let name = image.reference.as_ref().map(Reference::familiar);
            let id = image.id.as_ref().map(Digest::short);
            let created = image.created.as_deref().unwrap_or("-");
            let size = match image.problem {
                None => Cell::new(&super::size(image.bytes), Colour::Plain),
                Some(_) => Cell::new("damaged", Colour::Bad),
            };
            table.push(vec![
                Cell::new(&name.unwrap_or_else(|| "<none>".to_owned()), Colour::Plain),
                Cell::new(&id.unwrap_or_else(|| image.digest.short()), Colour::Plain),
                Cell::new(created.get(..19).unwrap_or(created), Colour::Plain),
                Cell::new(&image.layers.to_string(), Colour::Plain),
                size,
            ]);
        }
        out.table(&table)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn list(store: &Store, record: Record) -> Listed {
    let mut listed = Listed {
        reference: record.reference,
        digest: record.digest,
        id: None,
        created: None,
        layers: 0,
        bytes: 0,
        problem: None,
    };
    let mut fill = || -> anyhow::Result<()> {
        let documents = store.documents(&record.digest)?;
        listed.id = Some(documents.manifest.config.digest);
        listed.created = documents.config.created;
        listed.layers = documents.config.diff_ids.len();
        for diff_id in &documents.config.diff_ids {
            listed.bytes += layer::load(store.layers_dir(), diff_id)?.bytes;
        }
        Ok(())
    };
    listed.problem = fill().err().map(|err| format!("{err:#}"));
    listed
}
