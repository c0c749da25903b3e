// SPDX-License-Identifier: Apache-2.0
//! Handing a created container to systemd: steps 7 to 10 of [`start`](super::start).
//!
//! The created init is stopped before its program, so systemd adopts it before it can exit; when
//! the OCI runtime has gone it is a child of PID 1, which reaps it and records its true status.

use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::definition::Notify;
use crate::engine::bundle::Bundle;
use crate::engine::exit;
use crate::engine::start::Start;
use crate::engine::stdio::{self, RelayEnds};
use crate::journal::event::Event;
use crate::journal::log;
use crate::state::{self, RunRecord};
use crate::storage::overlay::Rootfs;
use crate::sys;
use crate::systemd::notify::{Notifier, State};

/// Longest that systemd may take to read what we send.
const BARRIER_DEADLINE: Duration = Duration::from_secs(30);

/// Where the relay is installed; packagers can build for another directory.
const LIBEXEC_DIR: &str = match option_env!("WHARF_LIBEXECDIR") {
    Some(dir) => dir,
    None => "/usr/libexec/wharf",
};

/// Creates the container, hands it over, lets it run, and becomes its relay.
pub(crate) fn hand_over(
    mut start: Start<'_>,
    bundle: Bundle,
    rootfs: Rootfs,
    notifier: &Notifier,
    lock: sys::fs::Lock,
) -> anyhow::Result<u8> {
    let (streams, ends) = stdio::prepare(&start.definition, &bundle.dir)?;
    ends.store(notifier)?;
    let oom_kills_before = start.unit_cgroup.number("memory.events", "oom_kill");
    let pid = start.runtime.create(&start.id, &bundle.dir, streams)?;
    // The container's mount namespace holds the file system from here on.
    drop(rootfs);
    start.stopwatch.lap("create");
    adopt(notifier, pid)?;
    start.stopwatch.lap("adopt");
    let notify = start.definition.lifecycle.notify;
    let name = start.definition.name.clone();
    let (id, runtime) = (start.id.clone(), start.runtime.clone());
    let record = record(start, &bundle, pid, oom_kills_before.unwrap_or_default())?;
    match notify {
        // Before the program runs: one that exits 0 sooner than READY arrives would make the
        // unit fail with 'protocol'.
        Notify::Started => notifier.send(&[State::Ready, State::Status("")])?,
        Notify::Container => notifier.status("waiting for READY=1 from the container")?,
    }
    runtime.start(&id, &bundle.dir)?;
    let message = format!("Container '{name}' started");
    log::event(Event::Started, &name, &message, &exit::identity(&record));
    drop(lock);
    become_relay(&record, bundle, ends, notifier)
}

/// Step 8: makes the container's init the unit's main process.
fn adopt(notifier: &Notifier, pid: i32) -> anyhow::Result<()> {
    let raw = rustix::process::Pid::from_raw(pid).context("the OCI runtime wrote PID 0")?;
    notifier.main_pid(raw)?;
    notifier
        .barrier(BARRIER_DEADLINE)
        .context("handing the container to systemd")
}

/// Writes the run-time record. From here on the unit's exit status is the payload's.
fn record(
    start: Start<'_>,
    bundle: &Bundle,
    pid: i32,
    oom_kills_before: u64,
) -> anyhow::Result<RunRecord> {
    let payload = start.unit_cgroup.child(exit::PAYLOAD);
    let definition = start.definition;
    let record = RunRecord {
        version: state::VERSION,
        name: definition.name,
        id: start.id,
        invocation_id: std::env::var("INVOCATION_ID").ok(),
        boot_id: sys::process::boot_id()?,
        pid,
        pid_start_ticks: sys::process::start_ticks(pid)?,
        started_at: jiff::Timestamp::now().to_string(),
        runtime: start.runtime.program().to_owned(),
        image: start.image,
        payload_cgroup: payload.path().to_owned(),
        args: bundle.args.clone(),
        env: bundle.env.clone(),
        stop_signal: definition
            .lifecycle
            .stop_signal
            .map_or_else(|| "SIGTERM".to_owned(), |signal| signal.name),
        init: definition.process.init,
        poststop: definition.hooks.poststop,
        oom_kills_before,
        timing: start.stopwatch.into_phases(),
        sources: definition.sources,
    };
    state::write(&start.engine.paths, &record)?;
    Ok(record)
}

/// Step 10. With nothing to move, no process of ours remains.
fn become_relay(
    record: &RunRecord,
    bundle: Bundle,
    ends: RelayEnds,
    notifier: &Notifier,
) -> anyhow::Result<u8> {
    let console = match &ends.console {
        Some(listener) => Some(sys::console::receive(listener)?),
        None => None,
    };
    let fds = [
        ("--stdout", ends.stdout),
        ("--stderr", ends.stderr),
        ("--console", console),
        ("--stdin", ends.stdin),
        ("--notify", bundle.notify),
    ];
    let fds: Vec<(&str, OwnedFd)> = fds
        .into_iter()
        .filter_map(|(option, fd)| fd.map(|fd| (option, fd)))
        .collect();
    if fds.is_empty() {
        return Ok(0);
    }
    let mut args: Vec<OsString> = vec![
        "--unit".into(),
        record.name.unit().as_str().into(),
        "--identifier".into(),
        bundle.identifier.into(),
        "--stderr-priority".into(),
        bundle.stderr_priority.to_string().into(),
        "--main-pid".into(),
        record.pid.to_string().into(),
        "--notify-socket".into(),
        notifier.address().into(),
    ];
    for (option, fd) in &fds {
        sys::process::inherit(fd)?;
        args.push(option.into());
        args.push(fd.as_raw_fd().to_string().into());
    }
    let relay: PathBuf = Path::new(LIBEXEC_DIR).join("wharf-relay");
    match sys::process::exec(&relay, &args) {
        Ok(never) => match never {},
        Err(err) => Err(err).context("starting the relay, which moves the container's output"),
    }
}
