// SPDX-License-Identifier: Apache-2.0
//! `wharf image ls`: what is in the store, and what it takes up.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::cli::{Context, output, phrase};
use crate::digest::Digest;
use crate::engine::images::filter::Filter;
use crate::engine::images::listing::{self, List};
use crate::reference::Reference;
use crate::reference::pattern::Pattern;

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let list = listing::list(paths, &args.filters, &args.patterns)?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&output::store::List::from(list))?;
    } else if args.quiet {
        let digests: BTreeSet<&Digest> = list.images.iter().map(|image| &image.digest).collect();
        for digest in digests {
            out.line(&digest.to_string())?;
        }
    } else {
        print_table(&mut out, &list, args)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
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
        let mut row = vec![plain(&damaged.shown), plain("-"), plain("-"), plain("-")];
        row.push(Cell::new("damaged", Colour::Bad));
        table.push(row);
    }
    out.table(&table)?;
    let (images, bytes) = (phrase::count(list.count, "image"), super::size(list.bytes));
    Ok(out.line(&format!("{images}, {bytes} in all"))?)
}
