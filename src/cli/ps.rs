// SPDX-License-Identifier: Apache-2.0
//! `wharf ps`: the list of containers.

use anyhow::Context as _;
use jiff::Timestamp;

use super::exit::ExitStatus;
use super::phrase::{self, Standing};
use super::terminal::{Cell, Colour, Out, Table};
use super::{Context, jobs, output};
use crate::engine::view::definitions::Gist;
use crate::engine::view::listing::{self, Listed, Which};
use crate::engine::view::status::State;
use crate::systemd::unit::ActiveState;

/// List containers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
    /// Print names only
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

/// Prints the list.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let which = if args.all { Which::All } else { Which::Live };
    let manager = match context.require_machine() {
        Ok(()) => Some(jobs::connect(context)?),
        // A directory tree has definitions and histories, and nothing that runs.
        Err(_) => None,
    };
    let listed =
        listing::list(context.paths()?, manager.as_ref(), which).context("listing containers")?;
    let mut out = Out::stdout();
    if args.json {
        let list = output::List {
            schema: output::SCHEMA,
            containers: listed.into_iter().map(output::Summary::from).collect(),
        };
        out.json(&list)?;
    } else if args.quiet {
        for container in &listed {
            out.line(container.name.as_str())?;
        }
    } else {
        print_table(&mut out, &listed)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn print_table(out: &mut Out, listed: &[Listed]) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let mut table = Table::new(&["NAME", "IMAGE", "STATE", "STATUS", "PID"]);
    for container in listed {
        let unit = container.unit.as_ref();
        let record = container.record.as_ref();
        let last = container.last.as_ref();
        let standing = Standing {
            state: container.state,
            active: unit.map_or(ActiveState::Inactive, |unit| unit.active),
            sub_state: unit.map_or("dead", |unit| unit.sub_state.as_str()),
            record,
            last,
        };
        let recorded = record
            .map(|record| &record.image)
            .or(last.and_then(|entry| entry.image.as_ref()));
        let mut status = phrase::standing(&standing, now);
        let mut image = recorded.map(phrase::image);
        match &container.gist {
            Some(Gist::Image(defined)) => image = image.or_else(|| Some(defined.clone())),
            // What the next start will say.
            Some(Gist::Broken(problem)) if !container.state.is_live() => {
                status = format!("broken: {}", phrase::one_line(problem));
            }
            Some(Gist::Broken(_)) | None => {}
        }
        let pid = record.filter(|_| matches!(container.state, State::Running | State::Paused));
        table.push(vec![
            Cell::new(container.name.as_str(), Colour::Plain),
            Cell::new(image.as_deref().unwrap_or("-"), Colour::Plain),
            Cell::new(
                container.state.word(),
                phrase::colour(container.state, last),
            ),
            Cell::new(&status, Colour::Plain),
            Cell::new(
                &pid.map(|r| r.pid.to_string()).unwrap_or_default(),
                Colour::Dim,
            ),
        ]);
    }
    Ok(out.table(&table)?)
}
