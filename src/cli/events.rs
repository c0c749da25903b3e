// SPDX-License-Identifier: Apache-2.0
//! `wharf events`: what happened to containers, read back from the journal.

use super::exit::ExitStatus;
use super::output::event::Event;
use super::terminal::{Out, escape};
use super::{Context, phrase};
use crate::engine::view::logs::{self, Part, Then};
use crate::name::ContainerName;

const EXAMPLES: &str = "\
Examples:
  wharf events --since today       what happened today
  wharf events -f --json web       one JSON object a line, as it happens";

/// Show what happened to containers
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Names of containers; all if none is given
    #[arg(value_name = "NAME")]
    names: Vec<ContainerName>,
    /// Wait for more
    #[arg(short, long)]
    follow: bool,
    /// Only from this time on, as journalctl(1) takes it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
    /// Only until this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<String>,
    /// Print JSON, one object a line, see wharf(1)
    #[arg(long)]
    json: bool,
}

/// Prints the events.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    context.require_machine()?;
    let part = Part {
        last: None,
        then: match args.follow {
            true => Then::Follow,
            false => Then::Stop,
        },
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let mut out = Out::stdout();
    for happened in logs::events(context.paths()?, &part)? {
        let happened = happened?;
        if !args.names.is_empty() && !args.names.contains(&happened.name) {
            continue;
        }
        let line = if args.json {
            serde_json::to_string(&Event::from(happened))?
        } else {
            let time = phrase::local_time(&happened.time);
            let (name, event, message) = (happened.name, happened.event, happened.message);
            escape(&format!("{time}  {name}  {event}  {message}")).into_owned()
        };
        out.line(&line)?;
        if args.follow {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
