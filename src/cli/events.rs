// SPDX-License-Identifier: Apache-2.0
//! `wharf events`: what happened to containers, read back from the journal.

use super::exit::ExitStatus;
use super::terminal::{Out, escape};
use super::{Context, logs, output, phrase};
use crate::journal::event::{self, Event};
use crate::journal::export::Entry;
use crate::journal::read::{self, AtEnd, Lines, Range};
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
    let range = Range {
        lines: Lines::All,
        at_end: if args.follow {
            AtEnd::Follow
        } else {
            AtEnd::Stop
        },
        since: args.since.clone(),
        until: args.until.clone(),
    };
    let mut out = Out::stdout();
    for entry in read::events(context.paths()?.scope(), &range)? {
        let Some(event) = event_of(&entry?) else {
            continue;
        };
        if !args.names.is_empty() && !args.names.contains(&event.name) {
            continue;
        }
        let line = if args.json {
            serde_json::to_string(&event)?
        } else {
            let output::Event {
                time,
                event,
                name,
                message,
                ..
            } = &event;
            let time = phrase::local_time(time);
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

/// An event of ours; the container is the one whose unit wrote the entry, whatever it claims. Of a
/// process that had ended when journald looked, there is the claim alone; it was root's or ours.
fn event_of(entry: &Entry) -> Option<output::Event> {
    let event = Event::from_message_id(&entry.text(event::MESSAGE_ID)?)?;
    let unit = entry
        .text("_SYSTEMD_USER_UNIT")
        .or_else(|| entry.text("_SYSTEMD_UNIT"))
        // What PID 1 has forked is in its scope for a moment, and systemd 252 connects it to the
        // journal before it moves it to its unit: journald remembers that for a second.
        .filter(|unit| unit != "init.scope")
        .or_else(|| entry.text(event::OBJECT_UNIT))?;
    let text = |field: &str| entry.text(field).map(std::borrow::Cow::into_owned);
    Some(output::Event {
        schema: output::SCHEMA,
        time: logs::time_of(entry),
        event: event.name(),
        name: ContainerName::from_unit(&unit)?,
        invocation_id: text("_SYSTEMD_INVOCATION_ID"),
        image: text(event::IMAGE_NAME),
        reason: text(event::REASON),
        code: entry
            .text(event::EXIT_CODE)
            .and_then(|code| code.parse().ok()),
        signal: text(event::EXIT_SIGNAL),
        message: text("MESSAGE").unwrap_or_default(),
    })
}
