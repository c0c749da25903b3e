// SPDX-License-Identifier: Apache-2.0
//! `wharf logs`: what containers printed, read back from the journal.

use anyhow::bail;
use jiff::Timestamp;

use super::exit::{Exit, ExitStatus};
use super::terminal::{Out, escape_bytes};
use super::{Context, jobs};
use crate::engine::control::lifecycle::Container;
use crate::journal::export::Entry;
use crate::journal::read::{self, AtEnd, Lines, Range};
use crate::name::ContainerName;
use crate::records::history;

const EXAMPLES: &str = "\
Examples:
  wharf logs web                     the current run, or the last one
  wharf logs --run -1 web            the run before that
  wharf logs -f -n 20 web            the last 20 lines, then what comes
  wharf logs --all --since -1h web   every run of the last hour

'journalctl -u ctr@web' shows the same and what systemd and wharf said about it.";

/// Show what a container printed
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the container
    name: ContainerName,
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<u64>,
    /// Only from this time on, as journalctl(1) takes it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only until this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Another run: 0 is the newest, -1 the one before, as 'wharf history' counts
    #[arg(
        long,
        value_name = "-N",
        allow_hyphen_values = true,
        conflicts_with = "all"
    )]
    run: Option<i64>,
    /// Every run
    #[arg(short, long)]
    all: bool,
    /// Put the time before each line
    #[arg(long)]
    timestamps: bool,
    /// Send control characters to the terminal as they are; to a pipe they always are
    #[arg(long)]
    raw: bool,
}

/// Prints the log.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    let invocation = match (args.all, args.run) {
        (true, _) => None,
        (false, Some(number)) => Some(run_id(context, &args.name, number)?),
        (false, None) => current_id(context, &args.name)?,
    };
    let range = Range {
        lines: args.lines.map_or(Lines::All, Lines::Last),
        at_end: if args.follow {
            AtEnd::Follow
        } else {
            AtEnd::Stop
        },
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let unit = args.name.unit();
    let mut out = Out::stdout();
    let escaped = out.is_terminal() && !args.raw;
    for entry in read::payload(
        context.paths()?.scope(),
        &unit,
        invocation.as_deref(),
        &range,
    )? {
        let entry = entry?;
        if args.timestamps {
            out.bytes(format!("{} ", time_of(&entry)).as_bytes())?;
        }
        let message = entry.bytes("MESSAGE").unwrap_or_default();
        if escaped {
            out.line(&escape_bytes(message))?;
        } else {
            out.bytes(message)?;
            out.bytes(b"\n")?;
        }
        if args.follow {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

/// When an entry was received, RFC 3339.
pub(super) fn time_of(entry: &Entry) -> String {
    entry
        .realtime_micros()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| "-".to_owned(), |time| format!("{time:.6}"))
}

/// The run that systemd knows, else the newest one of the history.
fn current_id(context: &Context, name: &ContainerName) -> anyhow::Result<Option<String>> {
    let manager = jobs::connect(context)?;
    let container = Container {
        paths: context.paths()?,
        manager: &manager,
        name,
    };
    let seen = container.observe()?;
    let recorded = seen.last.and_then(|entry| entry.invocation_id);
    Ok(seen.unit.invocation_id().or(recorded))
}

/// The run `number` of the history, counted from the newest. A run that goes on is the newest.
fn run_id(context: &Context, name: &ContainerName, number: i64) -> anyhow::Result<String> {
    let back = usize::try_from(-number)
        .map_err(|_| Exit::usage("'--run' takes 0 for the newest run, or -1, -2, … before it"))?;
    let mut ids: Vec<Option<String>> = history::load(context.paths()?, name)?
        .into_iter()
        .map(|entry| entry.invocation_id)
        .collect();
    if let Some(current) = running_id(context, name)? {
        ids.push(Some(current));
    }
    match ids.iter().rev().nth(back) {
        Some(Some(id)) => Ok(id.clone()),
        Some(None) => bail!("that run was in somebody's shell, its output is not in the journal"),
        None => bail!("container '{name}' has {} recorded runs", ids.len()),
    }
}

/// The run that goes on now.
fn running_id(context: &Context, name: &ContainerName) -> anyhow::Result<Option<String>> {
    let manager = jobs::connect(context)?;
    let container = Container {
        paths: context.paths()?,
        manager: &manager,
        name,
    };
    let seen = container.observe()?;
    Ok(seen.unit.invocation_id().filter(|_| seen.state.is_live()))
}
