// SPDX-License-Identifier: Apache-2.0
//! `wharf history`: how a container's runs ended.

use jiff::Timestamp;

use super::exit::ExitStatus;
use super::output::container::History;
use super::terminal::{Cell, Colour, Out, Table};
use super::{Context, phrase};
use crate::engine::refusal::Undefined;
use crate::engine::view::definitions::{self, Found};
use crate::engine::view::run::{self, Ended};
use crate::name::ContainerName;

/// Show how the runs of a container ended, oldest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the container
    name: ContainerName,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
    /// Show how long each phase of the starts took
    #[arg(long, conflicts_with = "json")]
    timing: bool,
}

/// Prints the history.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let container = context.container(&args.name)?;
    let runs = run::ended(container)?;
    if runs.is_empty() && definitions::find(container) == Found::Absent {
        return Err(Undefined::new(container).into());
    }
    let mut out = Out::stdout();
    if args.json {
        out.json(&History::new(args.name.clone(), runs))?;
    } else if args.timing {
        out.table(&timing(&runs))?;
    } else {
        out.table(&outcomes(&runs))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

/// Runs are counted backwards, as `logs --run` takes them.
fn numbered(runs: &[Ended]) -> impl Iterator<Item = (String, &Ended)> {
    let count = runs.len();
    runs.iter()
        .enumerate()
        .map(move |(index, run)| match count - index - 1 {
            0 => ("0".to_owned(), run),
            back => (format!("-{back}"), run),
        })
}

fn outcomes(runs: &[Ended]) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&["RUN", "STARTED", "RAN", "OUTCOME"]);
    for (number, run) in numbered(runs) {
        let finished: Timestamp = run.finished_at.parse().unwrap_or(now);
        let started = run.started_at.as_deref();
        let ran = started.map_or_else(|| "-".to_owned(), |at| phrase::age(at, finished));
        table.push(vec![
            Cell::new(&number, Colour::Plain),
            Cell::new(
                &started.map_or_else(|| "-".to_owned(), phrase::local_time),
                Colour::Plain,
            ),
            Cell::new(&ran, Colour::Plain),
            Cell::new(&phrase::ended(run, now), Colour::Plain),
        ]);
    }
    table
}

fn timing(runs: &[Ended]) -> Table {
    // The columns are the phases of the newest run; an older wharf may have had others.
    let phases: Vec<&str> = runs
        .last()
        .map(|run| run.timing.iter().map(|phase| phase.name.as_str()).collect())
        .unwrap_or_default();
    let mut columns = vec!["RUN"];
    columns.extend(&phases);
    let mut table = Table::new(&columns);
    for (number, run) in numbered(runs) {
        let mut row = vec![Cell::new(&number, Colour::Plain)];
        for name in &phases {
            let phase = run.timing.iter().find(|phase| phase.name == *name);
            let text = phase.map_or_else(|| "-".to_owned(), |phase| milliseconds(phase.micros));
            row.push(Cell::new(&text, Colour::Plain));
        }
        table.push(row);
    }
    table
}

fn milliseconds(micros: u64) -> String {
    format!("{}.{:01} ms", micros / 1000, micros % 1000 / 100)
}
