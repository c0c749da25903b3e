// SPDX-License-Identifier: Apache-2.0
//! `wharf ps`: the list of containers.

use jiff::Timestamp;

use super::Context;
use super::exit::ExitStatus;
use super::output::container::List;
use super::phrase::{self, Standing};
use super::terminal::{Cell, Colour, Out, Table};
use crate::engine::view::definitions::Gist;
use crate::engine::view::listing::{self, Listed, Which};
use crate::engine::view::status::State;

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
    let paths = context.paths()?;
    let listed = match context.require_machine() {
        Ok(()) => listing::list(paths, which)?,
        // A directory tree has definitions and histories, and nothing that runs.
        Err(_) => listing::list_resting(paths, which)?,
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&List::new(listed))?;
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
        let run = container.run.as_ref();
        let last = container.last.as_ref();
        let standing = Standing {
            state: container.state,
            course: container.course,
            started_at: run.map(|run| run.started_at.as_str()),
            last,
        };
        let root = run.map(|run| &run.root);
        let root = root.or(last.and_then(|ended| ended.root.as_ref()));
        let mut status = phrase::standing(&standing, now);
        let mut image = root.map(ToString::to_string);
        match &container.gist {
            Some(Gist::Image(defined)) => image = image.or_else(|| Some(defined.clone())),
            // What the next start will say.
            Some(Gist::Broken(problem)) if !container.state.is_live() => {
                status = format!("broken: {}", phrase::one_line(problem));
            }
            Some(Gist::Broken(_)) | None => {}
        }
        let pid = run.filter(|_| matches!(container.state, State::Running | State::Paused));
        table.push(vec![
            Cell::new(container.name.as_str(), Colour::Plain),
            Cell::new(image.as_deref().unwrap_or("-"), Colour::Plain),
            Cell::new(
                container.state.word(),
                phrase::colour(container.state, last),
            ),
            Cell::new(&status, Colour::Plain),
            Cell::new(
                &pid.map(|run| run.pid.to_string()).unwrap_or_default(),
                Colour::Dim,
            ),
        ]);
    }
    Ok(out.table(&table)?)
}
