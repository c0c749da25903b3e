// SPDX-License-Identifier: Apache-2.0
//! `wharf cleanup`: what happens after a run, whatever became of it (`ExecStopPost=`).
//!
//! Numbered steps, each idempotent, absent is success. Every step runs, whatever the ones before
//! said, and all errors are reported together. `start` runs the same [`reclaim`] before it begins
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

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::engine::outcome::{Adopted, Outcome, Verdict, judge};
use crate::engine::{Engine, hooks, mounted};
use crate::history::{self, Entry, Reason};
use crate::journal::event::{self, Event};
use crate::journal::log;
use crate::journal::stream::{Header, drain as drain_fifo};
use crate::name::{ContainerId, ContainerName};
use crate::paths::Paths;
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::state::{self, ImageRecord, RunRecord};
use crate::storage::overlay;
use crate::sys;
use crate::sys::cgroup::Cgroup;
use crate::systemd::notify::{Notifier, State};

/// Longest that all of the clean-up may take.
const CLEANUP_DEADLINE: Duration = Duration::from_secs(90);

/// How long the relay may go on with what it has already taken.
const RELAY_GRACE: Duration = Duration::from_millis(500);

/// Longest that killed processes may take to disappear; systemd waits longer for us.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Name of our own cgroup below the unit's, as in `DelegateSubgroup=` of ctr@.service.
pub(crate) const ENGINE: &str = "engine";

/// Name of the payload's cgroup below the unit's.
pub(crate) const PAYLOAD: &str = "payload";

/// The FIFOs in the run-time directory, and the names of their read ends in systemd's fd store.
pub(crate) const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// Longest that journald may take to read one of them.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no container, from `start` to `cleanup`.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    /// The run that failed.
    invocation_id: Option<String>,
    message: String,
}

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
pub fn cleanup(engine: &Engine, name: &ContainerName) -> anyhow::Result<()> {
    let verdict = verdict_from_env();
    if let Some(notifier) = Notifier::from_env()? {
        // The unit's TimeoutStopSec= is meant for the container, and would be ours too.
        notifier.send(&[State::ExtendTimeout(CLEANUP_DEADLINE)])?;
    }
    let _lock = lock(engine, name)?;
    if verdict.service_result.is_some() {
        // Every step runs, whatever this one says.
        if let Err(err) = end_engine(name) {
            tracing::warn!("ending what a start of container '{name}' left: {err:#}, ignoring");
        }
        return finish(engine, name, verdict);
    }
    // A person's call: nothing is known of a run's end, so none is made up.
    if is_running(engine, name) {
        bail!("container '{name}' is running: stop it with 'wharf stop {name}'");
    }
    recover(engine, name)
}

/// Waits for the relay, and ends what a start left running that was stopped half-way: with
/// `KillMode=mixed` systemd kills these only after this process, if the unit was stopped.
fn end_engine(name: &ContainerName) -> anyhow::Result<()> {
    let Some(engine) = payload_cgroup(None, name).and_then(|payload| payload.parent()) else {
        return Ok(());
    };
    let engine = engine.child(ENGINE);
    match engine.wait_empty(RELAY_GRACE) {
        Ok(()) => Ok(()),
        Err(_) => Ok(engine.kill(KILL_DEADLINE)?),
    }
}

/// Cleans up after a run whose end is known. The caller holds the lock.
pub(crate) fn finish(
    engine: &Engine,
    name: &ContainerName,
    mut verdict: Verdict,
) -> anyhow::Result<()> {
    let mut errors = Errors::default();
    let record = state::load(&engine.paths, name);
    // Of this run: a start of the unit that was refused while a shell had the container is not.
    let run = verdict.service_result.as_ref();
    let run = run.and_then(|_| std::env::var("INVOCATION_ID").ok());
    verdict.failure = failure(engine, name)
        .filter(|failure| failure.invocation_id == run)
        .map(|failure| failure.message);
    // A record that is damaged was written all the same (threats K8).
    if state::is_recorded(&engine.paths, name) {
        verdict.adopted = Adopted::Payload;
    }
    verdict.oom_kills = record.as_ref().map_or(0, oom_kills);
    let payload = payload_cgroup(record.as_ref(), name);
    errors.note(kill(payload.as_ref()));
    errors.note(drain(engine, name, record.as_ref()));
    let outcome = judge(&verdict);
    let entry = entry(&verdict, &outcome, record.as_ref());
    errors.note(history::append(&engine.paths, name, &entry));
    errors.note(forget(engine, name, record.as_ref(), payload.as_ref()));
    if let Some(record) = &record {
        let bundle = engine.paths.container_runtime(name);
        errors.note(hooks::poststop(&record.poststop, record, &bundle));
    }
    errors.note(remove_files(engine, name));
    let failure = engine.paths.container_failure(name);
    errors.note(sys::fs::remove_file(&failure).map_err(Into::into));
    // A start that gave up has told why itself.
    if verdict.failure.is_none() {
        announce(name, &outcome, record.as_ref());
    }
    errors.into_result(name)
}

/// Takes the container's lock. Its holder is another start or cleanup of the same container;
/// whoever waits says for whom.
///
/// # Errors
///
/// A container in a person's shell is not waited for: its lock is held until it ends.
pub(crate) fn lock(engine: &Engine, name: &ContainerName) -> anyhow::Result<sys::fs::Lock> {
    let path = engine.paths.container_lock(name);
    let locking = || format!("locking container '{name}'");
    if let Some(lock) = sys::fs::try_lock(&path).with_context(locking)? {
        return Ok(lock);
    }
    let record = state::load(&engine.paths, name);
    if record.is_some_and(|record| record.invocation_id.is_none()) && is_running(engine, name) {
        bail!("container '{name}' is running in somebody's shell: end it there");
    }
    let waiting = |holder: &str| {
        let message = format!("waiting for the lock of container '{name}', held by {holder}");
        tracing::warn!("{message}");
        if let Ok(Some(notifier)) = Notifier::from_env() {
            notifier.status(&message).ok();
        }
    };
    sys::fs::lock(&path, waiting).with_context(locking)
}

/// Writes down how an earlier run ended whose clean-up was killed, and removes what it left, from
/// any state. The caller holds the lock.
pub(crate) fn recover(engine: &Engine, name: &ContainerName) -> anyhow::Result<()> {
    let mut errors = Errors::default();
    errors.note(write_missing_entry(engine, name));
    errors.note(reclaim(engine, name));
    // Else the next clean-up would take it for its own run's.
    let failure = engine.paths.container_failure(name);
    errors.note(sys::fs::remove_file(&failure).map_err(Into::into));
    errors.into_result(name)
}

/// Removes whatever a run left, from any state. The caller holds the lock.
pub(crate) fn reclaim(engine: &Engine, name: &ContainerName) -> anyhow::Result<()> {
    let record = state::load(&engine.paths, name);
    let payload = payload_cgroup(record.as_ref(), name);
    let mut errors = Errors::default();
    errors.note(kill(payload.as_ref()));
    errors.note(drain(engine, name, record.as_ref()));
    errors.note(forget(engine, name, record.as_ref(), payload.as_ref()));
    errors.note(remove_files(engine, name));
    errors.into_result(name)
}

/// Writes the history entry of a run whose clean-up was itself killed before it could.
fn write_missing_entry(engine: &Engine, name: &ContainerName) -> anyhow::Result<()> {
    let record = state::load(&engine.paths, name);
    let failure = failure(engine, name);
    let of_record = record.as_ref().and_then(|r| r.invocation_id.clone());
    let of_failure = failure.as_ref().and_then(|f| f.invocation_id.clone());
    let Some(invocation) = of_record.or(of_failure) else {
        return Ok(());
    };
    let last = history::last(&engine.paths, name)?;
    if last.and_then(|entry| entry.invocation_id).as_ref() == Some(&invocation) {
        return Ok(());
    }
    let interrupted = "its clean-up was interrupted: the journal of the unit has its exit status";
    let verdict = Verdict {
        adopted: match record {
            Some(_) => Adopted::Payload,
            None => Adopted::Engine,
        },
        failure: failure.map(|failure| failure.message),
        ..Verdict::default()
    };
    let mut outcome = judge(&verdict);
    outcome
        .message
        .get_or_insert_with(|| interrupted.to_owned());
    let mut entry = entry(&verdict, &outcome, record.as_ref());
    entry.invocation_id = Some(invocation);
    history::append(&engine.paths, name, &entry)
}

/// Whether the process that the record names still is that process.
pub(crate) fn is_running(engine: &Engine, name: &ContainerName) -> bool {
    state::load(&engine.paths, name).is_some_and(|record| {
        sys::process::start_ticks(record.pid).is_ok_and(|ticks| ticks == record.pid_start_ticks)
    })
}

/// Where the payload is or was: as recorded, or below the unit that this process belongs to.
fn payload_cgroup(record: Option<&RunRecord>, name: &ContainerName) -> Option<Cgroup> {
    if let Some(record) = record {
        return Cgroup::at(&record.payload_cgroup).ok();
    }
    let unit = name.unit();
    let mut group = Cgroup::own().ok()?;
    // ExecStopPost= runs in the unit's cgroup on 252 and in `.control` below it on 257.
    while group.name() != unit.as_str() {
        group = group.parent().filter(|parent| parent.path() != "/")?;
    }
    Some(group.child(PAYLOAD))
}

fn kill(payload: Option<&Cgroup>) -> anyhow::Result<()> {
    payload.map_or(Ok(()), |payload| Ok(payload.kill(KILL_DEADLINE)?))
}

/// Moves what the container wrote last into the journal. The relay was killed together with the
/// container, and systemd's fd store has kept the FIFOs' content.
fn drain(engine: &Engine, name: &ContainerName, record: Option<&RunRecord>) -> anyhow::Result<()> {
    let dir = engine.paths.container_runtime(name);
    let identifier = record.map_or(name.as_str(), |record| record.identifier.as_str());
    let unit = name.unit();
    let priorities = [6, record.map_or(6, |record| record.stderr_priority)];
    let mut errors = Errors::default();
    for (stream, priority) in STREAMS.into_iter().zip(priorities) {
        let header = Header {
            identifier,
            unit: unit.as_str(),
            priority,
        };
        errors.note(drain_fifo(&dir.join(stream), &header, DRAIN_DEADLINE));
    }
    if let Some(notifier) = Notifier::from_env()? {
        for stored in STREAMS {
            errors.note(notifier.remove_fds(stored));
        }
    }
    errors.into_result(name)
}

fn forget(
    engine: &Engine,
    name: &ContainerName,
    record: Option<&RunRecord>,
    payload: Option<&Cgroup>,
) -> anyhow::Result<()> {
    let (runtime, id) = match record {
        Some(record) => (
            Some(Runtime::at(record.runtime.clone(), &engine.paths)),
            record.id.clone(),
        ),
        None => (find_runtime(engine), container_id(name)?),
    };
    let bundle = engine.paths.container_runtime(name);
    let deleted = match (runtime, record) {
        (Some(runtime), Some(_)) => runtime.forget(&id, &bundle),
        // The start did not get as far as writing down what it had made.
        (Some(runtime), None) => runtime.delete(&id),
        (None, _) => Ok(()),
    };
    if let Some(payload) = payload {
        payload.remove()?;
    }
    deleted
}

/// The runtime for a container whose start left no record. Settings that cannot be read must not
/// keep anything from being cleaned up.
fn find_runtime(engine: &Engine) -> Option<Runtime> {
    let settings = Settings::load(&engine.paths).unwrap_or_else(|err| {
        tracing::warn!("{err:#}, ignoring");
        Settings::default()
    });
    Runtime::find(&settings, &engine.paths).ok()
}

/// The container's id on this machine.
pub(crate) fn container_id(name: &ContainerName) -> anyhow::Result<ContainerId> {
    let machine_id = sys::fs::read_to_string(std::path::Path::new("/etc/machine-id"))
        .context("reading the machine's id, which 'systemd-machine-id-setup' makes")?;
    Ok(ContainerId::derive(&machine_id, name))
}

fn remove_files(engine: &Engine, name: &ContainerName) -> anyhow::Result<()> {
    // A view of it would see its files vanish, or those of the next run appear.
    let view = mounted::unmount(&engine.paths, name);
    let ephemeral = overlay::remove_ephemeral(&engine.paths, name);
    sys::fs::remove_tree(&engine.paths.container_runtime(name))?;
    ephemeral.and(view.map(drop))
}

/// Writes down why there is no container, for `cleanup`.
pub(crate) fn write_failure(
    paths: &Paths,
    name: &ContainerName,
    message: &str,
) -> anyhow::Result<()> {
    let path = paths.container_failure(name);
    if let Some(dir) = path.parent() {
        sys::fs::ensure_dir(dir, 0o700)?;
    }
    let failure = Failure {
        invocation_id: std::env::var("INVOCATION_ID").ok(),
        message: message.to_owned(),
    };
    let json = serde_json::to_vec(&failure)?;
    Ok(sys::fs::write_atomic(
        &path,
        &json,
        0o600,
        sys::fs::Durability::Memory,
    )?)
}

/// What `start` wrote down when it gave up.
fn failure(engine: &Engine, name: &ContainerName) -> Option<Failure> {
    let text = sys::fs::read_to_string(&engine.paths.container_failure(name)).ok()?;
    serde_json::from_str(&text).ok()
}

fn oom_kills(record: &RunRecord) -> u64 {
    Cgroup::at(&record.payload_cgroup)
        .ok()
        .and_then(|payload| payload.parent())
        .and_then(|unit| unit.number("memory.events", "oom_kill"))
        .map_or(0, |now| now.saturating_sub(record.oom_kills_before))
}

fn entry(verdict: &Verdict, outcome: &Outcome, record: Option<&RunRecord>) -> Entry {
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

/// The fields that say which container an event is about.
pub(crate) fn identity(record: &RunRecord) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        (event::CONTAINER_ID, record.id.short().to_owned()),
        (event::CONTAINER_ID_FULL, record.id.as_str().to_owned()),
    ];
    if let ImageRecord::Image { reference, digest } = &record.image {
        fields.push((event::IMAGE_NAME, reference.clone()));
        fields.push((event::IMAGE_DIGEST, digest.clone()));
    }
    fields
}
