// SPDX-License-Identifier: Apache-2.0
//! `wharf check`: what is wrong with the definitions, without a running system.

use super::Context;
use super::exit::ExitStatus;
use super::output;
use super::terminal::{Out, escape};
use crate::definition::kinds::Designation;
use crate::engine::view::check::check;

/// Check definitions and print what is wrong, with file, line and column
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
    /// Definitions to check, KIND/NAME or the name of a container; all of them, and files that are
    /// none, when left out
    #[arg(value_name = "NAME")]
    names: Vec<Designation>,
}

/// Prints every problem; the status is 2 when there is one.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let report = check(context.paths()?, &args.names);
    let mut out = Out::stdout();
    if args.json {
        out.json(&output::definition::Checked::new(&report))?;
    } else {
        for problem in &report.problems {
            out.line(&escape(&problem.to_string()))?;
        }
    }
    out.flush()?;
    Ok(if report.problems.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Usage
    })
}
