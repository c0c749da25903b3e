// SPDX-License-Identifier: Apache-2.0
//! `wharf logs`: what containers printed, read back from the journal.

use super::Context;
use super::exit::ExitStatus;
use super::terminal::{Out, escape_bytes};
use crate::engine::view::logs::{self, Part, Runs, Then};
use crate::name::ContainerName;

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
    let runs = match (args.all, args.run) {
        (true, _) => Runs::All,
        (false, Some(number)) => Runs::Numbered(number),
        (false, None) => Runs::Current,
    };
    let part = Part {
        last: args.lines,
        then: match args.follow {
            true => Then::Follow,
            false => Then::Stop,
        },
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let mut out = Out::stdout();
    let escaped = out.is_terminal() && !args.raw;
    for line in logs::payload(context.container(&args.name)?, runs, &part)? {
        let line = line?;
        if args.timestamps {
            out.bytes(format!("{} ", line.time()).as_bytes())?;
        }
        let message = line.message();
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
