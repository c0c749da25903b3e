// SPDX-License-Identifier: Apache-2.0
//! `wharf image gc`: keep the store within the budget of wharf.toml(5).

use serde::Serialize;

use super::prune::{DryRun, Report};
use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::terminal::Out;
use crate::engine::images::gc::{self, Goal};
use crate::engine::images::needs::{self, Reason};
use crate::image::Digest;
use crate::image::remove::Removed;
use crate::settings::Settings;

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

#[derive(Serialize)]
struct Collected {
    #[serde(flatten)]
    report: Report,
    /// Before.
    stored_bytes: u64,
    budget_bytes: u64,
    high_water_bytes: u64,
    low_water_bytes: u64,
    kept: Vec<Kept>,
}

#[derive(Serialize)]
struct Kept {
    digest: Digest,
    because: Vec<Reason>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = needs::store(paths)?;
    let settings = Settings::load(paths)?;
    let plan = gc::plan(paths, &settings, &store, Goal::Budget)?;
    let (marks, stored) = (plan.marks, plan.stored);
    let kept = plan.needs.iter().map(|(digest, reasons)| Kept {
        digest: *digest,
        because: reasons.iter().cloned().collect(),
    });
    let kept: Vec<Kept> = kept.collect();
    let report = if args.dry_run {
        Report::new(plan.remove, plan.frees, DryRun::Yes)
    } else {
        let Removed { images, freed } = gc::carry_out(&store, plan)?;
        Report::new(images, freed, DryRun::No)
    };
    let mut out = Out::stdout();
    if args.json {
        let collected = Collected {
            report,
            stored_bytes: stored,
            budget_bytes: marks.budget,
            high_water_bytes: marks.high,
            low_water_bytes: marks.low,
            kept,
        };
        out.json(&collected)?;
    } else {
        let size = super::size;
        out.line(&format!(
            "{} stored, {} is the budget",
            size(stored),
            size(marks.budget)
        ))?;
        if args.dry_run {
            for kept in &kept {
                for reason in &kept.because {
                    out.line(&format!("would keep {}: {reason}", kept.digest.short()))?;
                }
            }
        }
        report.print(&mut out)?;
    }
    out.flush()?;
    super::note_hindrance(&store);
    Ok(ExitStatus::Success)
}
