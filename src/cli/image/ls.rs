// SPDX-License-Identifier: Apache-2.0
//! `wharf image ls`: what is in the store, and what it takes up.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::filter::Filter;
use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::phrase;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::image::remove::{self, Named};
use crate::image::size::{Size, Sizes};
use crate::image::store::Store;
use crate::image::used;
use crate::image::{Digest, Reference};
use crate::reference::pattern::Pattern;
use crate::storage::layer;

/// List the images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only images with such a name; '*' is any text, and a name without a tag is all its tags
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    /// Only images that are dangling=true|false, until=TIME (not used since), label=NAME[=VALUE],
    /// reference=PATTERN; all of them where it is given several times
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Show the manifests' digests
    #[arg(long)]
    digests: bool,
    /// Print the manifests' digests only, each once
    #[arg(short, long, conflicts_with_all = ["json", "digests"])]
    quiet: bool,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct List {
    schema: u32,
    /// A name each; an image of two names is there twice.
    images: Vec<Listed>,
    /// Files of references that cannot be read.
    damaged: Vec<Damaged>,
    total: Total,
}

/// What is listed, everything that is shared counted once.
#[derive(Serialize)]
struct Total {
    images: usize,
    /// Of the whole store when nothing was left out.
    bytes: u64,
}

#[derive(Serialize)]
struct Damaged {
    reference: String,
    problem: String,
}

/// One name of an image.
#[derive(Serialize)]
struct Listed {
    reference: Option<Reference>,
    /// The manifest's.
    digest: Digest,
    /// The config's digest; none when the image is damaged.
    id: Option<Digest>,
    created: Option<String>,
    /// When it was last started, loaded, pulled or named.
    used_at: String,
    layers: usize,
    #[serde(flatten)]
    size: Size,
    /// Why the image cannot be run.
    problem: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let sizes = Sizes::load(&store)?;
    let images: Vec<Named> = remove::oldest_first(&store)?
        .into_iter()
        .filter(|image| args.filters.iter().all(|f| f.admits(&store, image)))
        .collect();
    let admitted = |digest: &Digest| images.iter().any(|image| image.digest == *digest);
    let is_meant = |reference: Option<&Reference>| {
        args.patterns.is_empty()
            || reference.is_some_and(|r| args.patterns.iter().any(|p| p.matches(r)))
    };
    let listed: Vec<Listed> = store
        .records()?
        .iter()
        .filter(|record| admitted(&record.digest) && is_meant(record.reference.as_ref()))
        .map(|record| {
            let used = used::last_used(&store, record).unwrap_or(SystemTime::UNIX_EPOCH);
            list(
                &store,
                record.reference.clone(),
                record.digest,
                used,
                &sizes,
            )
        })
        .collect();
    let digests = listed.iter().map(|image| image.digest).collect();
    let damaged = remove::unreadable(&store)?
        .into_iter()
        .filter(|_| args.filters.is_empty() && args.patterns.is_empty())
        .map(|found| Damaged {
            reference: found.shown,
            problem: found.problem,
        });
    let list = List {
        schema: SCHEMA,
        total: sizes.of_all(&digests).into(),
        images: listed,
        damaged: damaged.collect(),
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&list)?;
    } else if args.quiet {
        for digest in digests {
            out.line(&digest.to_string())?;
        }
    } else {
        print_table(&mut out, &list, args)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

impl From<(usize, u64)> for Total {
    fn from((images, bytes): (usize, u64)) -> Self {
        Self { images, bytes }
    }
}

fn list(
    store: &Store,
    reference: Option<Reference>,
    digest: Digest,
    used: SystemTime,
    sizes: &Sizes,
) -> Listed {
    let mut listed = Listed {
        reference,
        digest,
        id: None,
        created: None,
        used_at: Timestamp::try_from(used).unwrap_or_default().to_string(),
        layers: 0,
        size: sizes.of(&digest),
        problem: None,
    };
    let mut fill = || -> anyhow::Result<()> {
        let documents = store.documents(&digest)?;
        listed.id = Some(documents.manifest.config.digest);
        listed.created = documents.config.created;
        listed.layers = documents.config.diff_ids.len();
        for diff_id in &documents.config.diff_ids {
            layer::load(store.layers_dir(), diff_id)?;
        }
        Ok(())
    };
    listed.problem = fill().err().map(|err| format!("{err:#}"));
    listed
}

fn print_table(out: &mut Out, list: &List, args: &Args) -> anyhow::Result<()> {
    let mut columns = vec![
        "REFERENCE",
        "ID",
        "CREATED",
        "LAYERS",
        "SIZE",
        "SHARED",
        "UNIQUE",
    ];
    if args.digests {
        columns.push("DIGEST");
    }
    let mut table = Table::new(&columns);
    let plain = |text: &str| Cell::new(text, Colour::Plain);
    let now = Timestamp::now();
    for image in &list.images {
        let name = image.reference.as_ref().map(Reference::familiar);
        let id = image.id.as_ref().map(Digest::short);
        let created = image.created.as_deref().and_then(|c| c.parse().ok());
        let created = created.map(|time: Timestamp| phrase::age(&time.to_string(), now) + " ago");
        let size = match image.problem {
            None => plain(&super::size(image.size.total())),
            Some(_) => Cell::new("damaged", Colour::Bad),
        };
        let mut row = vec![
            plain(&name.unwrap_or_else(|| "<none>".to_owned())),
            plain(&id.unwrap_or_else(|| image.digest.short())),
            plain(created.as_deref().unwrap_or("-")),
            plain(&image.layers.to_string()),
            size,
            plain(&super::size(image.size.shared_bytes)),
            plain(&super::size(image.size.unique_bytes)),
        ];
        if args.digests {
            row.push(Cell::new(&image.digest.to_string(), Colour::Dim));
        }
        table.push(row);
    }
    for damaged in &list.damaged {
        let mut row = vec![
            plain(&damaged.reference),
            plain("-"),
            plain("-"),
            plain("-"),
        ];
        row.push(Cell::new("damaged", Colour::Bad));
        table.push(row);
    }
    out.table(&table)?;
    let Total { images, bytes } = list.total;
    let (images, bytes) = (phrase::count(images, "image"), super::size(bytes));
    Ok(out.line(&format!("{images}, {bytes} in all"))?)
}
