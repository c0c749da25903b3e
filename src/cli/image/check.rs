// SPDX-License-Identifier: Apache-2.0
//! `wharf image check`: read the whole store and name what is damaged.

use std::io::{self, IsTerminal as _};

use indicatif::ProgressBar;

use crate::cli::exit::ExitStatus;
use crate::cli::terminal::{Out, escape};
use crate::image::check::check;
use crate::image::store::Store;
use crate::paths::Paths;

/// Read all images and layers and report damage
///
/// The exit status is 1 when something is damaged. A damaged image is repaired by removing and
/// loading it again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(paths: &Paths, args: &Args) -> anyhow::Result<ExitStatus> {
    let store = Store::open(paths)?;
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let report = check(&store, &mut |what| {
        bar.set_message(what.to_owned());
        bar.tick();
    });
    bar.finish_and_clear();
    let report = report?;
    let mut out = Out::stdout();
    if args.json {
        out.line(&serde_json::to_string_pretty(&report)?)?;
    } else {
        for finding in &report.findings {
            let line = format!("{}: {}", finding.subject, finding.problem);
            out.line(&escape(&line))?;
            if !finding.images.is_empty() {
                out.line(&format!("  needed by {}", finding.images.join(", ")))?;
            }
        }
        out.line(&format!(
            "{} references, {} blobs, {} layers read; {} problems",
            report.references,
            report.blobs,
            report.layers,
            report.findings.len()
        ))?;
    }
    out.flush()?;
    if report.findings.is_empty() {
        Ok(ExitStatus::Success)
    } else {
        Ok(ExitStatus::Failure)
    }
}
