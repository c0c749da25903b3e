// SPDX-License-Identifier: Apache-2.0
//! `wharf image gc`: keep the store within the budget of wharf.toml(5).

use super::prune::print;
use crate::cli::exit::ExitStatus;
use crate::cli::terminal::Out;
use crate::cli::{Context, output};
use crate::engine::images::prune::{self, Act};

/// Remove the images not used for the longest time, until the store is within its budget
///
/// Images stay that a container runs, is defined with or ran last, that are mounted, and that
/// wharf.toml(5) keeps. Nothing is removed while the store is within its budget.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only say what would be removed, and why the others stay
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let act = match args.dry_run {
        true => Act::Tell,
        false => Act::Do,
    };
    let collected = prune::collect(context.paths()?, act)?;
    let hindrance = collected.pruned.hindrance.clone();
    let mut out = Out::stdout();
    if args.json {
        out.json(&output::store::Collected::new(collected, act))?;
    } else {
        let size = super::size;
        out.line(&format!(
            "{} stored, {} is the budget",
            size(collected.stored),
            size(collected.marks.budget)
        ))?;
        if args.dry_run {
            for (digest, reasons) in &collected.kept {
                for reason in reasons {
                    out.line(&format!("would keep {}: {reason}", digest.short()))?;
                }
            }
        }
        print(&mut out, &collected.pruned, act)?;
    }
    out.flush()?;
    super::note_hindrance(hindrance.as_deref());
    Ok(ExitStatus::Success)
}
