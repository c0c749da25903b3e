// SPDX-License-Identifier: Apache-2.0
//! Handing a created container to systemd: steps 7 to 10 of [`start`](super::start).
//!
//! The created init is stopped before its program, so systemd adopts it before it can exit; when
//! the OCI runtime has gone it is a child of PID 1, which reaps it and records its true status.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::definition;
use crate::engine::run::bundle::Bundle;
use crate::engine::run::cleanup;
use crate::engine::run::start::Start;
use crate::engine::run::stdio::{self, RelayEnds};
use crate::image::store::Store;
use crate::journal::event::Event;
use crate::journal::log;
use crate::records::run::{self, RunRecord};
use crate::relay::invocation::{Invocation, Notify};
use crate::storage::overlay::Rootfs;
use crate::sys;
use crate::sys::lifeline::Lifeline;
use crate::sys::process::Process;
use crate::systemd::notify::{Notifier, State};

/// Longest that systemd may take to read what we send.
pub(crate) const BARRIER_DEADLINE: Duration = Duration::from_secs(30);

/// Why a container ended that was killed together with its start.
const KILLED: &str = "'wharf start' was killed before it was done";

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
    let pid = start.runtime.create(&start.id, &bundle.dir, streams)?;
    // The container's mount namespace holds the file system from here on.
    drop(rootfs);
    start.stopwatch.lap("create");
    let main = Process::open(pid).context("taking hold of the container's init")?;
    let lifeline = lifeline(&start, pid)?;
    adopt(notifier, pid)?;
    start.stopwatch.lap("adopt");
    let notify = start.definition.lifecycle.notify;
    let name = start.definition.name.clone();
    let (id, runtime) = (start.id.clone(), start.runtime.clone());
    let record = write_record(start, &bundle, pid)?;
    // A program that exits at once takes this process with it, before it could tell.
    let message = format!("Container '{name}' started");
    log::event(Event::Started, &name, &message, &cleanup::identity(&record));
    match notify {
        // Before the program runs: one that exits 0 sooner than READY arrives would make the
        // unit fail with 'protocol'.
        definition::Notify::Started => notifier.send(&[State::Ready, State::Status("")])?,
        definition::Notify::Container => {
            notifier.status("waiting for READY=1 from the container")?
        }
    }
    runtime.start(&id, &bundle.dir)?;
    drop(lock);
    let relay = Relay {
        ends,
        main,
        lifeline,
    };
    relay.take_over(&record, bundle, notifier)
}

/// From `MAINPID=` to a working relay nobody would notice that this process was killed: systemd
/// waits for the container's init, which would wait for `crun start` for ever. Whoever holds the
/// lifeline's other end then writes down why, and kills the container.
///
/// A container that has ended is no such case: systemd kills the rest of its unit, and this process
/// may not be through yet when the program exits at once.
fn lifeline(start: &Start<'_>, pid: i32) -> anyhow::Result<Lifeline> {
    let paths = &start.engine.paths;
    let name = &start.definition.name;
    let lifeline = Lifeline::attach(|| {
        // systemd reaps the init only after it has killed the others.
        if Process::open(pid).map_or(true, |main| main.has_ended()) {
            return;
        }
        // Not being able to say why is no reason to leave a container that nobody relays.
        cleanup::write_failure(paths, name, KILLED).ok();
        let message = format!("Container '{name}' was not started: {KILLED}");
        log::event(Event::EngineFailed, name, &message, &[]);
        start.payload.kill(Duration::ZERO).ok();
    });
    lifeline.context("watching over the start")
}

/// Step 8: makes the container's init the unit's main process.
fn adopt(notifier: &Notifier, pid: i32) -> anyhow::Result<()> {
    let raw = rustix::process::Pid::from_raw(pid).context("the OCI runtime wrote PID 0")?;
    notifier.main_pid(raw)?;
    notifier
        .barrier(BARRIER_DEADLINE)
        .context("handing the container to systemd")
}

/// Writes the run-time record of a created container. From here on the exit status that systemd
/// reports is the payload's, and the record keeps the image from being removed; before, nothing
/// did, so it is looked at again.
pub(crate) fn write_record(
    start: Start<'_>,
    bundle: &Bundle,
    pid: i32,
) -> anyhow::Result<RunRecord> {
    let image = start.image_record()?;
    let definition = start.definition;
    let unit = start.payload.parent();
    let record = RunRecord {
        version: run::VERSION,
        name: definition.name,
        id: start.id,
        invocation_id: start.invocation_id,
        boot_id: sys::process::boot_id()?,
        pid,
        pid_start_ticks: sys::process::start_ticks(pid)?,
        started_at: jiff::Timestamp::now().to_string(),
        runtime: start.runtime.program().to_owned(),
        image,
        payload_cgroup: start.payload.path().to_owned(),
        args: bundle.args.clone(),
        env: bundle.env.clone(),
        stop_signal: bundle.stop_signal.clone(),
        identifier: bundle.identifier.clone(),
        stderr_priority: bundle.stderr_priority,
        init: definition.process.init,
        poststop: definition.hooks.poststop,
        // The payload has not run yet: what is counted now is an earlier run's.
        oom_kills_before: unit
            .and_then(|unit| unit.number("memory.events", "oom_kill"))
            .unwrap_or_default(),
        timing: start.stopwatch.into_phases(),
        sources: definition.sources,
    };
    let paths = &start.engine.paths;
    match &start.source {
        Some(image) => Store::open(paths)?.claim(image, || run::write(paths, &record))?,
        None => run::write(paths, &record)?,
    }
    Ok(record)
}

/// What the relay needs of the start.
#[derive(Debug)]
struct Relay {
    ends: RelayEnds,
    main: Process,
    lifeline: Lifeline,
}

impl Relay {
    /// Step 10. With nothing to move, no process of ours remains.
    fn take_over(
        self,
        record: &RunRecord,
        bundle: Bundle,
        notifier: &Notifier,
    ) -> anyhow::Result<u8> {
        let Self {
            ends,
            main,
            lifeline,
        } = self;
        let console = match &ends.console {
            Some(listener) => Some(sys::console::receive(listener)?),
            None => None,
        };
        let is_idle = ends.stdout.is_none() && console.is_none() && ends.stdin.is_none();
        if is_idle && bundle.notify.is_none() {
            return Ok(0);
        }
        let invocation = Invocation {
            unit: record.name.unit().as_str().to_owned(),
            identifier: bundle.identifier,
            main: main.into_fd(),
            stdout: ends.stdout,
            stderr: ends.stderr,
            console,
            stdin: ends.stdin,
            notify: bundle.notify.map(|socket| Notify {
                socket,
                manager: notifier.address().to_owned(),
            }),
            lifeline: Some(lifeline),
            stderr_priority: bundle.stderr_priority,
        };
        Err(invocation.exec(&Path::new(LIBEXEC_DIR).join("wharf-relay")))
    }
}
