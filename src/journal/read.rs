// SPDX-License-Identifier: Apache-2.0
//! Reading the journal back, through journalctl(1).
//!
//! journalctl knows rotation, namespaces, access rights and following; linking libsystemd for the
//! same would add a C library to a static program for one rarely used reader. Only fields that
//! journald sets itself (a leading `_`) are matched on: no payload can write into another
//! container's log, and no user can make up an event.

use std::ffi::OsString;
use std::io::BufReader;
use std::time::Duration;

use anyhow::Context as _;

use super::event::{self, Event};
use super::export::{self, Entry};
use crate::name::UnitName;
use crate::paths::Scope;
use crate::sys::command::Command;
use crate::sys::command::stream::Stream;

/// How long journald may take to write out what it has received.
const SYNC_DEADLINE: Duration = Duration::from_secs(3);

/// How many entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// All there are.
    All,
    /// The last ones.
    Last(u64),
}

/// What to do at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Stop.
    Stop,
    /// Wait for more.
    Follow,
}

/// Which part of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// How many.
    pub lines: Lines,
    /// What to do at the end.
    pub at_end: AtEnd,
    /// From when on, as journalctl(1) takes it.
    pub since: Option<String>,
    /// Until when.
    pub until: Option<String>,
}

/// Entries, oldest first.
#[derive(Debug)]
pub struct Reader {
    stream: Option<BufReader<Stream>>,
}

impl Iterator for Reader {
    type Item = anyhow::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let stream = self.stream.as_mut()?;
        match export::read_entry(stream).context("reading the journal") {
            Ok(Some(entry)) => Some(Ok(entry)),
            Ok(None) => {
                let ended = self.stream.take()?.into_inner().finish();
                ended.context("reading the journal").err().map(Err)
            }
            Err(err) => {
                self.stream = None;
                Some(Err(err))
            }
        }
    }
}

/// What the payload of a unit printed; of one run, if an invocation id is given.
pub fn payload(
    scope: Scope,
    unit: &UnitName,
    invocation_id: Option<&str>,
    range: &Range,
) -> anyhow::Result<Reader> {
    let mut matches = vec![unit_match(scope, unit), "_TRANSPORT=stdout".to_owned()];
    matches.extend(invocation_id.map(|id| format!("_SYSTEMD_INVOCATION_ID={id}")));
    open(scope, &matches, range)
}

/// Everything about one run of a unit: what it printed, what wharf said, what systemd said.
pub fn run(scope: Scope, invocation_id: &str, range: &Range) -> anyhow::Result<Reader> {
    let about = match scope {
        Scope::System => "INVOCATION_ID",
        Scope::User => "USER_INVOCATION_ID",
    };
    // systemd's entries about the unit; only PID 1 and the user's own manager write them.
    let mut matches = vec![
        format!("_SYSTEMD_INVOCATION_ID={invocation_id}"),
        "+".to_owned(),
        format!("{about}={invocation_id}"),
    ];
    match scope {
        Scope::System => matches.push("_PID=1".to_owned()),
        Scope::User => matches.push(own_uid()),
    }
    open(scope, &matches, range)
}

/// The events of all containers.
pub fn events(scope: Scope, range: &Range) -> anyhow::Result<Reader> {
    let mut matches: Vec<String> = Event::ALL
        .iter()
        .map(|event| format!("{}={}", event::MESSAGE_ID, event.message_id()))
        .collect();
    matches.push(match scope {
        Scope::System => "_UID=0".to_owned(),
        Scope::User => own_uid(),
    });
    open(scope, &matches, range)
}

/// Waits until journald has written what it has received, so that a reader sees it. Without the
/// right to ask, or with a journald that is down, what is there has to do.
pub fn sync() {
    let synced = Command::new("journalctl")
        .arg("--sync")
        .deadline(SYNC_DEADLINE)
        .run();
    if let Err(err) = synced {
        tracing::debug!("syncing the journal: {err}, ignoring");
    }
}

fn unit_match(scope: Scope, unit: &UnitName) -> String {
    match scope {
        Scope::System => format!("_SYSTEMD_UNIT={unit}"),
        Scope::User => format!("_SYSTEMD_USER_UNIT={unit}"),
    }
}

fn own_uid() -> String {
    format!("_UID={}", nix::unistd::getuid())
}

fn open(scope: Scope, matches: &[String], range: &Range) -> anyhow::Result<Reader> {
    let mut command = Command::new("journalctl");
    command.args(arguments(range));
    if scope == Scope::User {
        command.arg("--user");
    }
    let stream = command
        .args(matches)
        .stream()
        .context("reading the journal")?;
    Ok(Reader {
        stream: Some(BufReader::with_capacity(1 << 16, stream)),
    })
}

fn arguments(range: &Range) -> Vec<OsString> {
    let fields = [
        "MESSAGE",
        "PRIORITY",
        "SYSLOG_IDENTIFIER",
        "_PID",
        "_SYSTEMD_UNIT",
        "_SYSTEMD_USER_UNIT",
        "_SYSTEMD_INVOCATION_ID",
        event::MESSAGE_ID,
        event::OBJECT_UNIT,
        event::CONTAINER_NAME,
        event::CONTAINER_ID_FULL,
        event::IMAGE_NAME,
        event::IMAGE_DIGEST,
        event::REASON,
        event::EXIT_CODE,
        event::EXIT_SIGNAL,
    ];
    let mut arguments: Vec<OsString> = vec![
        "--quiet".into(),
        "--no-pager".into(),
        // Fields of any length, unchanged.
        "--all".into(),
        "--output=export".into(),
        format!("--output-fields={}", fields.join(",")).into(),
    ];
    match range.lines {
        // Following starts with the last 10 lines unless told otherwise.
        Lines::All => arguments.push("--lines=all".into()),
        Lines::Last(count) => arguments.push(format!("--lines={count}").into()),
    }
    match range.at_end {
        AtEnd::Stop => {}
        AtEnd::Follow => arguments.push("--follow".into()),
    }
    let times = [("since", &range.since), ("until", &range.until)];
    for (option, time) in times {
        arguments.extend(time.as_ref().map(|t| format!("--{option}={t}").into()));
    }
    arguments
}
