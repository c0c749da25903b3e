// SPDX-License-Identifier: Apache-2.0
//! `wharf image check`: read the whole store, name what is damaged, and repair it.

use std::io::{self, IsTerminal as _};

use indicatif::ProgressBar;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::SCHEMA;
use crate::cli::phrase;
use crate::cli::terminal::{Out, escape};
use crate::engine::images::needs;
use crate::image::check::{Finding, Report, check};
use crate::image::repair::{Outcome, repair};
use crate::registry::Client;
use crate::settings::Settings;

/// Read all images and layers and report damage
///
/// The exit status is 1 when something is damaged and was not repaired.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Unpack damaged layers again, and fetch what is damaged itself from its registry
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed {
    schema: u32,
    references: usize,
    blobs: usize,
    layers: usize,
    findings: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    finding: Finding,
    repaired: bool,
    /// Why it was not repaired; `null` without `--repair`.
    reason: Option<String>,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = needs::store(paths)?;
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let mut tell = |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    let report = check(&store, &mut tell)?;
    // Without findings too: what a killed repair left in staging is swept.
    let found = if args.repair {
        let client = Client::new(paths, &Settings::load(paths)?)?;
        let outcomes = repair(&store, &client, &report, &mut tell)?;
        outcomes.into_iter().map(Found::from).collect()
    } else {
        report.findings.iter().cloned().map(Found::from).collect()
    };
    bar.finish_and_clear();
    print(args, &report, found)
}

impl From<Outcome> for Found {
    fn from(Outcome { finding, left }: Outcome) -> Self {
        Self {
            finding,
            repaired: left.is_none(),
            reason: left,
        }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        Self {
            finding,
            repaired: false,
            reason: None,
        }
    }
}

fn print(args: &Args, report: &Report, findings: Vec<Found>) -> anyhow::Result<ExitStatus> {
    let (count, repaired) = (
        findings.len(),
        findings.iter().filter(|found| found.repaired).count(),
    );
    let mut out = Out::stdout();
    if args.json {
        let printed = Printed {
            schema: SCHEMA,
            references: report.references,
            blobs: report.blobs,
            layers: report.layers,
            findings,
        };
        out.json(&printed)?;
    } else {
        for found in &findings {
            let finding = &found.finding;
            let line = format!("{}: {}", finding.subject, finding.problem);
            out.line(&escape(&line))?;
            if !finding.images.is_empty() {
                out.line(&format!("  needed by {}", finding.images.join(", ")))?;
            }
            match (found.repaired, &found.reason) {
                (true, _) => out.line("  repaired")?,
                (false, Some(reason)) => {
                    out.line(&escape(&format!("  not repaired: {reason}")))?;
                }
                (false, None) => {}
            }
        }
        let mut line = format!(
            "{}, {}, {} read; {}",
            phrase::count(report.references, "reference"),
            phrase::count(report.blobs, "blob"),
            phrase::count(report.layers, "layer"),
            phrase::count(count, "problem"),
        );
        if args.repair {
            line.push_str(&format!(", {repaired} repaired"));
        }
        out.line(&line)?;
    }
    out.flush()?;
    match count == repaired {
        true => Ok(ExitStatus::Success),
        false => Ok(ExitStatus::Failure),
    }
}
