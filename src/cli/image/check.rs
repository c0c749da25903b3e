// SPDX-License-Identifier: Apache-2.0
//! `wharf image check`: read the whole store, name what is damaged, and repair it.

use std::io::{self, IsTerminal as _};

use indicatif::ProgressBar;

use crate::cli::exit::ExitStatus;
use crate::cli::output::store::Checked;
use crate::cli::terminal::{Out, escape};
use crate::cli::{Context, phrase};
use crate::engine::images::check::{self, Finding, Repair, Report};

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let bar = if io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    let mut tell = |what: &str| {
        bar.set_message(what.to_owned());
        bar.tick();
    };
    let report = match args.repair {
        true => check::repair(paths, &mut tell)?,
        false => check::check(paths, &mut tell)?,
    };
    bar.finish_and_clear();
    let is_sound = repaired(&report) == report.findings.len();
    let mut out = Out::stdout();
    match args.json {
        true => out.json(&Checked::from(report))?,
        false => print(&mut out, args, &report)?,
    }
    out.flush()?;
    match is_sound {
        true => Ok(ExitStatus::Success),
        false => Ok(ExitStatus::Failure),
    }
}

fn repaired(report: &Report) -> usize {
    let findings = report.findings.iter();
    let repaired = findings.filter(|finding| finding.repair == Repair::Done);
    repaired.count()
}

fn print(out: &mut Out, args: &Args, report: &Report) -> anyhow::Result<()> {
    for finding in &report.findings {
        print_finding(out, finding)?;
    }
    let mut line = format!(
        "{}, {}, {} read; {}",
        phrase::count(report.references, "reference"),
        phrase::count(report.blobs, "blob"),
        phrase::count(report.layers, "layer"),
        phrase::count(report.findings.len(), "problem"),
    );
    if args.repair {
        line.push_str(&format!(", {} repaired", repaired(report)));
    }
    Ok(out.line(&line)?)
}

fn print_finding(out: &mut Out, finding: &Finding) -> anyhow::Result<()> {
    let line = format!("{}: {}", finding.subject, finding.problem);
    out.line(&escape(&line))?;
    if !finding.images.is_empty() {
        out.line(&format!("  needed by {}", finding.images.join(", ")))?;
    }
    match &finding.repair {
        Repair::Untried => {}
        Repair::Done => out.line("  repaired")?,
        Repair::Failed(reason) => {
            out.line(&escape(&format!("  not repaired: {reason}")))?;
        }
    }
    Ok(())
}
