// SPDX-License-Identifier: Apache-2.0
//! `wharf image prune`: remove images that nothing needs, all at once.

use serde::Serialize;

use super::filter::Filter;
use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::terminal::Out;
use crate::engine::images::needs;
use crate::image::remove::{self, Named, Removed};
use crate::image::{Digest, Reference};
use crate::settings::Settings;

/// Remove the images that have no name and that nothing needs
///
/// Images stay that a container runs, is defined with or ran last, that are mounted, and that
/// wharf.toml(5) keeps.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also images with names
    #[arg(short, long)]
    all: bool,
    /// Only images that are until=TIME (not used since), label=NAME[=VALUE], reference=PATTERN,
    /// dangling=true|false; all of them where it is given several times
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print what was removed as JSON
    #[arg(long)]
    json: bool,
}

/// What prune and gc print.
#[derive(Serialize)]
pub(super) struct Report {
    schema: u32,
    dry_run: bool,
    removed: Vec<Gone>,
    freed_bytes: u64,
}

#[derive(Serialize)]
struct Gone {
    references: Vec<Reference>,
    digest: Digest,
}

impl Report {
    pub(super) fn new(images: Vec<Named>, freed: u64, dry_run: DryRun) -> Self {
        let gone = images.into_iter().map(|image| Gone {
            references: image.references,
            digest: image.digest,
        });
        Self {
            schema: SCHEMA,
            dry_run: dry_run == DryRun::Yes,
            removed: gone.collect(),
            freed_bytes: freed,
        }
    }

    /// For people.
    pub(super) fn print(&self, out: &mut Out) -> anyhow::Result<()> {
        let (removed, freed) = match self.dry_run {
            true => ("would remove", "would free"),
            false => ("removed", "freed"),
        };
        for image in &self.removed {
            let names: Vec<String> = image.references.iter().map(Reference::familiar).collect();
            let name = match names.as_slice() {
                [] => image.digest.to_string(),
                names => names.join(", "),
            };
            out.line(&format!("{removed} {name}"))?;
        }
        let bytes = super::size(self.freed_bytes);
        Ok(out.line(&format!("{freed} {bytes}"))?)
    }
}

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DryRun {
    Yes,
    No,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = needs::store(paths)?;
    let settings = Settings::load(paths)?;
    let needs = needs::needs(paths, &settings, &store)?;
    let images: Vec<Named> = remove::oldest_first(&store)?
        .into_iter()
        .filter(|image| args.all || image.references.is_empty())
        .filter(|image| !needs.contains_key(&image.digest))
        .filter(|image| args.filters.iter().all(|f| f.admits(&store, image)))
        .collect();
    let report = if args.dry_run {
        let freed = remove::would_free(&store, &images)?;
        Report::new(images, freed, DryRun::Yes)
    } else {
        let Removed { images, freed } = remove::remove_all(&store, images)?;
        Report::new(images, freed, DryRun::No)
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&report)?;
    } else {
        report.print(&mut out)?;
    }
    out.flush()?;
    super::note_hindrance(&store);
    Ok(ExitStatus::Success)
}
