// SPDX-License-Identifier: Apache-2.0
//! `wharf cleanup`: what happens after a run, whatever became of it (`ExecStopPost=`).
//!
//! Numbered steps, each idempotent, absent is success. Every step runs, whatever the ones before
//! said, and all errors are reported together. `start` runs the same [`Remains::reclaim`] before it begins
//! and when it fails: there is one cleaner and no chain of undo actions.
//!
//! 1. lock the container, read what its start left
//! 2. kill what is left in the payload's cgroup
//! 3. move the last output into the journal, release the stored descriptors
//! 4. judge the exit, append it to the exit history
//! 5. make the OCI runtime forget the container
//! 6. remove the payload's cgroup
//! 7. run the poststop hooks
//! 8. remove the writable layer and the run-time directory
//! 9. one journal event

use std::time::Duration;

use anyhow::bail;

use crate::engine::container::Container;
use crate::engine::files::mount;
use crate::engine::run::failure::{self, Failure};
use crate::engine::run::outcome::{Adopted, Outcome, Verdict, judge};
use crate::engine::run::record::identity;
use crate::engine::run::stdio::STREAMS;
use crate::engine::run::{cgroup, hooks};
use crate::journal::event::{self, Event};
use crate::journal::log;
use crate::journal::stream::{Header, drain};
use crate::name::ContainerName;
use crate::records::history::{self, Entry, Reason};
use crate::records::run::{Recorded, RunRecord};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::storage::overlay;
use crate::sys;
use crate::sys::cgroup::Cgroup;
use crate::systemd::notify::{Notifier, State};

/// Longest that all of the clean-up may take.
const CLEANUP_DEADLINE: Duration = Duration::from_secs(90);

/// Longest that journald may take to read one of them.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Why a run has no exit status.
const INTERRUPTED: &str =
    "its clean-up was interrupted: the journal of the unit has its exit status";

/// Errors of the steps, collected.
#[derive(Debug, Default)]
struct Errors(Vec<String>);

impl Errors {
    fn note<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(err) => {
                self.0.push(format!("{err:#}"));
                None
            }
        }
    }

    fn into_result(self, name: &ContainerName) -> anyhow::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        bail!("cleaning up container '{name}': {}", self.0.join("; "));
    }
}

/// What `ExecStopPost=` was told in the environment.
fn verdict_from_env() -> Verdict {
    let variable = |name: &str| std::env::var(name).ok();
    Verdict {
        service_result: variable("SERVICE_RESULT"),
        exit_code: variable("EXIT_CODE"),
        exit_status: variable("EXIT_STATUS"),
        ..Verdict::default()
    }
}

/// Cleans up after a run of the unit and writes down how it ended.
///
/// # Errors
///
/// Everything that could not be done, in one message.
pub fn cleanup(container: Container<'_>) -> anyhow::Result<()> {
    let name = container.name();
    let verdict = verdict_from_env();
    if let Some(notifier) = Notifier::from_env()? {
        // The unit's TimeoutStopSec= is meant for the container, and would be ours too.
        notifier.send(&[State::ExtendTimeout(CLEANUP_DEADLINE)])?;
    }
    let _lock = container.lock()?;
    if verdict.service_result.is_some() {
        // Every step runs, whatever this one says.
        if let Err(err) = cgroup::end_engine(name) {
            tracing::warn!("ending what a start of container '{name}' left: {err:#}, ignoring");
        }
        return Remains::read(container).finish(verdict);
    }
    // A person's call: nothing is known of a run's end, so none is made up.
    let remains = Remains::read(container);
    if remains.is_running() {
        bail!("container '{name}' is running: stop it with 'wharf stop {name}'");
    }
    remains.recover()
}

/// What a run left, read once. Whoever reads it holds the container's lock.
///
/// Each step is idempotent, and takes what is absent for done.
#[derive(Debug)]
pub(crate) struct Remains<'a> {
    container: Container<'a>,
    recorded: Recorded,
    /// Why a start gave up.
    failure: Option<Failure>,
    /// Where the payload is or was.
    payload: Option<Cgroup>,
}

impl<'a> Remains<'a> {
    /// Reads what is left of a container.
    pub(crate) fn read(container: Container<'a>) -> Self {
        let recorded = container.record();
        Self {
            payload: cgroup::of_payload(recorded.known(), container.name()),
            failure: failure::read(container),
            recorded,
            container,
        }
    }

    /// The record of the run.
    pub(crate) fn record(&self) -> Option<&RunRecord> {
        self.recorded.known()
    }

    /// Whether the container is still there.
    pub(crate) fn is_running(&self) -> bool {
        self.record().is_some_and(RunRecord::is_running)
    }

    /// Cleans up after a run whose end is known.
    pub(crate) fn finish(&self, mut verdict: Verdict) -> anyhow::Result<()> {
        let mut errors = Errors::default();
        // Of this run: a start of the unit that was refused while a shell had the container is not.
        let run = verdict.service_result.as_ref();
        let run = run.and_then(|_| std::env::var("INVOCATION_ID").ok());
        let failure = self.failure.as_ref();
        verdict.failure = failure
            .filter(|failure| failure.invocation_id == run)
            .map(|failure| failure.message.clone());
        // A record that is damaged was written all the same.
        if self.recorded.exists() {
            verdict.adopted = Adopted::Payload;
        }
        verdict.oom_kills = self.oom_kills();
        errors.note(self.kill());
        errors.note(self.drain());
        let outcome = judge(&verdict);
        let entry = self.entry(&verdict, &outcome);
        let (paths, name) = (self.container.paths(), self.container.name());
        errors.note(history::append(paths, name, &entry));
        errors.note(self.forget());
        if let Some(record) = self.record() {
            errors.note(hooks::poststop(record, &self.container.bundle()));
        }
        errors.note(self.remove_files());
        errors.note(failure::remove(self.container));
        // A start that gave up has told why itself.
        if verdict.failure.is_none() {
            announce(name, &outcome, self.record());
        }
        errors.into_result(name)
    }

    /// Writes down how an earlier run ended whose clean-up was killed, and removes what it left,
    /// from any state.
    pub(crate) fn recover(&self) -> anyhow::Result<()> {
        let mut errors = Errors::default();
        errors.note(self.write_missing_entry());
        errors.note(self.reclaim());
        // Else the next clean-up would take it for its own run's.
        errors.note(failure::remove(self.container));
        errors.into_result(self.container.name())
    }

    /// Removes whatever the run left, from any state.
    pub(crate) fn reclaim(&self) -> anyhow::Result<()> {
        let mut errors = Errors::default();
        errors.note(self.kill());
        errors.note(self.drain());
        errors.note(self.forget());
        errors.note(self.remove_files());
        errors.into_result(self.container.name())
    }

    /// Writes the history entry of a run whose clean-up was itself killed before it could.
    fn write_missing_entry(&self) -> anyhow::Result<()> {
        let (paths, name) = (self.container.paths(), self.container.name());
        let of_record = self.record().and_then(|r| r.invocation_id.clone());
        let of_failure = self.failure.as_ref().and_then(|f| f.invocation_id.clone());
        let Some(invocation) = of_record.or(of_failure) else {
            return Ok(());
        };
        let last = history::last(paths, name)?;
        if last.and_then(|entry| entry.invocation_id).as_ref() == Some(&invocation) {
            return Ok(());
        }
        let verdict = Verdict {
            adopted: match self.record() {
                Some(_) => Adopted::Payload,
                None => Adopted::Engine,
            },
            failure: self.failure.as_ref().map(|failure| failure.message.clone()),
            ..Verdict::default()
        };
        let mut outcome = judge(&verdict);
        outcome
            .message
            .get_or_insert_with(|| INTERRUPTED.to_owned());
        let mut entry = self.entry(&verdict, &outcome);
        entry.invocation_id = Some(invocation);
        history::append(paths, name, &entry)
    }

    /// Kills what is left of the payload.
    fn kill(&self) -> anyhow::Result<()> {
        let payload = self.payload.as_ref();
        payload.map_or(Ok(()), |payload| Ok(payload.kill(cgroup::KILL_DEADLINE)?))
    }

    /// Moves what the container wrote last into the journal. The relay was killed together with the
    /// container, and systemd's fd store has kept the FIFOs' content.
    fn drain(&self) -> anyhow::Result<()> {
        let name = self.container.name();
        let dir = self.container.bundle();
        let record = self.record();
        let unit = name.unit();
        let priorities = [6, record.map_or(6, |record| record.stderr_priority)];
        let mut errors = Errors::default();
        for (stream, priority) in STREAMS.into_iter().zip(priorities) {
            let header = Header {
                identifier: record.map_or(name.as_str(), RunRecord::identifier),
                unit: unit.as_str(),
                priority,
            };
            errors.note(drain(&dir.join(stream), &header, DRAIN_DEADLINE));
        }
        if let Some(notifier) = Notifier::from_env()? {
            for stored in STREAMS {
                errors.note(notifier.remove_fds(stored));
            }
        }
        errors.into_result(name)
    }

    /// Makes the OCI runtime forget the container, and removes the payload's cgroup.
    fn forget(&self) -> anyhow::Result<()> {
        let paths = self.container.paths();
        let deleted = match self.record() {
            Some(record) => Runtime::at(record.runtime.clone(), paths)
                .forget(&record.id, &self.container.bundle()),
            // The start did not get as far as writing down what it had made.
            None => match self.find_runtime() {
                Some(runtime) => self.container.id().and_then(|id| runtime.delete(&id)),
                None => Ok(()),
            },
        };
        if let Some(payload) = &self.payload {
            payload.remove()?;
        }
        deleted
    }

    /// The runtime for a container whose start left no record. Settings that cannot be read must not
    /// keep anything from being cleaned up.
    fn find_runtime(&self) -> Option<Runtime> {
        let paths = self.container.paths();
        let settings = Settings::load(paths).unwrap_or_else(|err| {
            tracing::warn!("{err:#}, ignoring");
            Settings::default()
        });
        Runtime::find(&settings, paths).ok()
    }

    fn remove_files(&self) -> anyhow::Result<()> {
        let (paths, name) = (self.container.paths(), self.container.name());
        // A view of it would see its files vanish, or those of the next run appear.
        let view = mount::unmount(self.container);
        let ephemeral = overlay::remove_ephemeral(paths, name);
        sys::fs::remove_tree(&self.container.bundle())?;
        ephemeral.and(view.map(drop))
    }

    /// Processes of this run that the kernel ended for want of memory.
    fn oom_kills(&self) -> u64 {
        let Some(record) = self.record() else {
            return 0;
        };
        let now = self.payload.as_ref().and_then(cgroup::oom_kills);
        now.map_or(0, |now| now.saturating_sub(record.oom_kills_before))
    }

    fn entry(&self, verdict: &Verdict, outcome: &Outcome) -> Entry {
        let record = self.record();
        Entry {
            invocation_id: record
                .and_then(|record| record.invocation_id.clone())
                .or_else(|| {
                    // In a person's shell it may be that of the terminal's unit.
                    let _ = verdict.service_result.as_ref()?;
                    std::env::var("INVOCATION_ID").ok()
                }),
            started_at: record.map(|record| record.started_at.clone()),
            finished_at: jiff::Timestamp::now().to_string(),
            reason: outcome.reason,
            code: outcome.code,
            signal: outcome.signal.clone(),
            core_dumped: outcome.core_dumped,
            service_result: verdict.service_result.clone(),
            message: outcome.message.clone(),
            image: record.map(|record| record.image.clone()),
            timing: record
                .map(|record| record.timing.clone())
                .unwrap_or_default(),
        }
    }
}

/// One event in the journal, and a hint where PID 1 of the container ignored the stop signal.
fn announce(name: &ContainerName, outcome: &Outcome, record: Option<&RunRecord>) {
    let mut fields = vec![(event::REASON, reason_word(outcome.reason))];
    if let Some(code) = outcome.code {
        fields.push((event::EXIT_CODE, code.to_string()));
    }
    if let Some(signal) = &outcome.signal {
        fields.push((event::EXIT_SIGNAL, signal.clone()));
    }
    fields.extend(record.map(identity).unwrap_or_default());
    let message = format!("Container '{name}' {}", outcome.describe());
    log::event(Event::Exited, name, &message, &fields);
    let ignored = outcome.reason == Reason::Timeout && outcome.signal.as_deref() == Some("KILL");
    if let Some(record) = record.filter(|record| ignored && !record.init) {
        let message = format!(
            "Container '{name}' had to be killed: its PID 1 ignored {}. A program that installs \
             no handler for it ignores it as PID 1; 'init = true' in the definition puts a small \
             init there.",
            record.stop_signal
        );
        log::event(Event::StopSignalIgnored, name, &message, &[]);
    }
}

fn reason_word(reason: Reason) -> String {
    serde_json::to_value(reason)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
