// SPDX-License-Identifier: Apache-2.0
//! Handing a created container to systemd: steps 7 to 10 of [`start`](super::start).
//!
//! The created init is stopped before its program, so systemd adopts it before it can exit; when
//! the OCI runtime has gone it is a child of PID 1, which reaps it and records its true status.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::definition;
use crate::engine::run::context::{Bundle, Prepared, Start};
use crate::engine::run::stdio::{self, RelayEnds};
use crate::engine::run::{failure, record};
use crate::journal::event::Event;
use crate::journal::log;
use crate::records::run::RunRecord;
use crate::relay::invocation::{Invocation, Notify};
use crate::sys;
use crate::sys::lifeline::Lifeline;
use crate::sys::process::Process;
use crate::systemd::notify::{BARRIER_DEADLINE, Notifier, State};

/// Why a container ended that was killed together with its start.
const KILLED: &str = "'wharf start' was killed before it was done";

/// Where the relay is installed; packagers can build for another directory.
const LIBEXEC_DIR: &str = match option_env!("WHARF_LIBEXECDIR") {
    Some(dir) => dir,
    None => "/usr/libexec/wharf",
};

/// Creates the container, hands it over, lets it run, and becomes its relay.
pub(crate) fn hand_over(
    prepared: Prepared<'_>,
    notifier: &Notifier,
    lock: sys::fs::Lock,
) -> anyhow::Result<u8> {
    let Prepared {
        mut start,
        bundle,
        rootfs,
    } = prepared;
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
    let record = record::write(start, &bundle, pid)?;
    // A program that exits at once takes this process with it, before it could tell.
    let message = format!("Container '{name}' started");
    log::event(Event::Started, &name, &message, &record::identity(&record));
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
    let container = start.container;
    let name = container.name();
    let lifeline = Lifeline::attach(|| {
        // systemd reaps the init only after it has killed the others.
        if Process::open(pid).map_or(true, |main| main.has_ended()) {
            return;
        }
        // Not being able to say why is no reason to leave a container that nobody relays.
        failure::write(container, KILLED).ok();
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
