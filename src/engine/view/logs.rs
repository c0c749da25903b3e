// SPDX-License-Identifier: Apache-2.0
//! What containers printed, and what happened to them, read back from the journal.

use std::borrow::Cow;

use anyhow::bail;
use jiff::Timestamp;

use crate::engine::container::Container;
use crate::engine::refusal::Misuse;
use crate::engine::view::{facts, status};
use crate::journal::event::{self, Event};
use crate::journal::export::Entry;
use crate::journal::read::{self, AtEnd, Lines, Range};
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::records::history;

/// Which part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Only so many lines at its end.
    pub last: Option<u64>,
    /// What comes after it.
    pub then: Then,
    /// From when on, as journalctl(1) takes it.
    pub since: Option<String>,
    /// Until when.
    pub until: Option<String>,
}

/// What comes after the end of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    #[default]
    Stop,
    /// What is written from now on.
    Follow,
}

impl From<&Part> for Range {
    fn from(part: &Part) -> Self {
        Self {
            lines: part.last.map_or(Lines::All, Lines::Last),
            at_end: match part.then {
                Then::Stop => AtEnd::Stop,
                Then::Follow => AtEnd::Follow,
            },
            since: part.since.clone(),
            until: part.until.clone(),
        }
    }
}

/// One line of a log.
#[derive(Debug)]
pub struct Line(Entry);

impl Line {
    /// The text, whatever bytes it has.
    pub fn message(&self) -> &[u8] {
        self.0.bytes("MESSAGE").unwrap_or_default()
    }

    /// Who wrote it.
    pub fn identifier(&self) -> Cow<'_, str> {
        self.0.text("SYSLOG_IDENTIFIER").unwrap_or_default()
    }

    /// When journald received it, RFC 3339.
    pub fn time(&self) -> String {
        time_of(&self.0)
    }
}

fn time_of(entry: &Entry) -> String {
    entry
        .realtime_micros()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .map_or_else(|| "-".to_owned(), |time| format!("{time:.6}"))
}

/// Whose runs' output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// The one that systemd knows, else the newest of the history.
    Current,
    /// This one of the history: 0 is the newest, -1 the one before. A run that goes on is the
    /// newest.
    Numbered(i64),
    /// All of them.
    All,
}

/// What a container printed, oldest first.
///
/// # Errors
///
/// [`Misuse`] for a number that is none; a refusal when nobody knows the container.
pub fn payload(
    container: Container<'_>,
    runs: Runs,
    part: &Part,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<>> {
    let invocation = match runs {
        Runs::All => None,
        Runs::Numbered(number) => Some(numbered(container, number)?),
        Runs::Current => current(container)?,
    };
    let (scope, unit) = (container.paths().scope(), container.name().unit());
    let entries = read::payload(scope, &unit, invocation.as_deref(), &part.into())?;
    Ok(entries.map(|entry| entry.map(Line)))
}

fn current(container: Container<'_>) -> anyhow::Result<Option<String>> {
    let seen = facts::look(container, &status::connect(container.paths())?)?;
    let recorded = seen.last.and_then(|entry| entry.invocation_id);
    Ok(seen.unit.invocation_id().or(recorded))
}

fn numbered(container: Container<'_>, number: i64) -> anyhow::Result<String> {
    let back = usize::try_from(-number)
        .map_err(|_| Misuse::new("'--run' takes 0 for the newest run, or -1, -2, … before it"))?;
    let name = container.name();
    let mut ids: Vec<Option<String>> = history::load(container.paths(), name)?
        .into_iter()
        .map(|entry| entry.invocation_id)
        .collect();
    let seen = facts::look(container, &status::connect(container.paths())?)?;
    if let Some(running) = seen.unit.invocation_id().filter(|_| seen.state.is_live()) {
        ids.push(Some(running));
    }
    match ids.iter().rev().nth(back) {
        Some(Some(id)) => Ok(id.clone()),
        Some(None) => bail!("that run was in somebody's shell, its output is not in the journal"),
        None => bail!("container '{name}' has {} recorded runs", ids.len()),
    }
}

/// The end of everything that was written about one run: what it printed, what wharf said, what
/// systemd said.
pub fn tail(
    paths: &Paths,
    invocation_id: &str,
    lines: u64,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Line>> + use<>> {
    read::sync();
    let part = Part {
        last: Some(lines),
        ..Part::default()
    };
    let entries = read::run(paths.scope(), invocation_id, &Range::from(&part))?;
    Ok(entries.map(|entry| entry.map(Line)))
}

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When journald received it, RFC 3339.
    pub time: String,
    /// What, as wharf(1) calls it.
    pub event: &'static str,
    /// The container.
    pub name: ContainerName,
    /// systemd's id of the run.
    pub invocation_id: Option<String>,
    /// The image's reference.
    pub image: Option<String>,
    /// Why a run ended.
    pub reason: Option<String>,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal, without `SIG`.
    pub signal: Option<String>,
    /// The entry's text.
    pub message: String,
}

/// What happened to all containers, oldest first.
pub fn events(
    paths: &Paths,
    part: &Part,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Happened>> + use<>> {
    let entries = read::events(paths.scope(), &part.into())?;
    Ok(entries.filter_map(|entry| entry.map(|entry| happened(&entry)).transpose()))
}

/// An event of ours; the container is the one whose unit wrote the entry, whatever it claims. Of a
/// process that had ended when journald looked, there is the claim alone; it was root's or ours.
fn happened(entry: &Entry) -> Option<Happened> {
    let event = Event::from_message_id(&entry.text(event::MESSAGE_ID)?)?;
    let unit = entry
        .text("_SYSTEMD_USER_UNIT")
        .or_else(|| entry.text("_SYSTEMD_UNIT"))
        // What PID 1 has forked is in its scope for a moment, and systemd 252 connects it to the
        // journal before it moves it to its unit: journald remembers that for a second.
        .filter(|unit| unit != "init.scope")
        .or_else(|| entry.text(event::OBJECT_UNIT))?;
    let text = |field: &str| entry.text(field).map(Cow::into_owned);
    Some(Happened {
        time: time_of(entry),
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
