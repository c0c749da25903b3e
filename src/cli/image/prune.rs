// SPDX-License-Identifier: Apache-2.0
//! `wharf image prune`: remove images that nothing needs, all at once.

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::Out;
use crate::cli::{Context, output};
use crate::engine::images::filter::Filter;
use crate::engine::images::prune::{self, Act, Pruned, Which};
use crate::reference::Reference;

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let which = match args.all {
        true => Which::All,
        false => Which::Unnamed,
    };
    let act = match args.dry_run {
        true => Act::Tell,
        false => Act::Do,
    };
    let pruned = prune::prune(context.paths()?, which, &args.filters, act)?;
    let hindrance = pruned.hindrance.clone();
    let mut out = Out::stdout();
    if args.json {
        out.json(&output::store::Pruned::new(pruned, act))?;
    } else {
        print(&mut out, &pruned, act)?;
    }
    out.flush()?;
    super::note_hindrance(hindrance.as_deref());
    Ok(ExitStatus::Success)
}

/// What prune and gc print for people.
pub(super) fn print(out: &mut Out, pruned: &Pruned, act: Act) -> anyhow::Result<()> {
    let (removed, freed) = match act {
        Act::Tell => ("would remove", "would free"),
        Act::Do => ("removed", "freed"),
    };
    for image in &pruned.images {
        let names: Vec<String> = image.references.iter().map(Reference::familiar).collect();
        let name = match names.as_slice() {
            [] => image.digest.to_string(),
            names => names.join(", "),
        };
        out.line(&format!("{removed} {name}"))?;
    }
    let bytes = super::size(pruned.freed);
    Ok(out.line(&format!("{freed} {bytes}"))?)
}
