// SPDX-License-Identifier: Apache-2.0
//! The control groups of a run: `engine` and `payload` below the unit's.

use std::time::Duration;

use anyhow::Context as _;

use crate::engine::spec::CgroupNamespace;
use crate::name::ContainerName;
use crate::records::run::RunRecord;
use crate::sys;
use crate::sys::cgroup::Cgroup;
use crate::systemd::notify::Notifier;

/// Name of our own cgroup below the unit's, as in `DelegateSubgroup=` of ctr@.service.
const ENGINE: &str = "engine";

/// Name of the payload's cgroup below the unit's.
const PAYLOAD: &str = "payload";

/// How long the relay may go on with what it has already taken.
const RELAY_GRACE: Duration = Duration::from_millis(500);

/// Longest that killed processes may take to disappear; systemd waits longer for us.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Moves this process to `engine` and names the payload's group, which the runtime makes.
///
/// The root of the cgroup namespace is the unit's cgroup: the container then finds the unit's
/// limits, those that `systemctl set-property` changes, at the root of its /sys/fs/cgroup.
pub(crate) fn enter(
    name: &ContainerName,
    notifier: Option<&Notifier>,
) -> anyhow::Result<(Cgroup, CgroupNamespace)> {
    let own = Cgroup::own().context("finding the control group of this process")?;
    if notifier.is_none() {
        // A session's group is shared by whatever else the person runs.
        let payload = own.child(&format!("wharf-{name}"));
        return Ok((payload, CgroupNamespace::New));
    }
    // No inner processes: from systemd 254 on, DelegateSubgroup= has put us where we belong.
    if let Some(unit) = own.parent().filter(|_| own.name() == ENGINE) {
        unit.enter_namespace()?;
        return Ok((unit.child(PAYLOAD), CgroupNamespace::Inherited));
    }
    sys::mount::unshare_cgroup()?;
    let engine = own.child(ENGINE);
    engine.ensure()?;
    engine
        .enter()
        .context("moving to the engine's control group")?;
    Ok((own.child(PAYLOAD), CgroupNamespace::Inherited))
}

/// Whether this process belongs to the container's unit.
pub(crate) fn is_own_unit(name: &ContainerName) -> bool {
    let unit = name.unit();
    let is_unit = |group: &Cgroup| group.name() == unit.as_str();
    Cgroup::own().is_ok_and(|own| is_unit(&own) || own.parent().as_ref().is_some_and(is_unit))
}

/// Where the payload is or was: as recorded, or below the unit that this process belongs to.
pub(crate) fn of_payload(record: Option<&RunRecord>, name: &ContainerName) -> Option<Cgroup> {
    match record {
        Some(record) => Cgroup::at(&record.payload_cgroup).ok(),
        None => Some(of_unit(name)?.child(PAYLOAD)),
    }
}

/// The container's unit, if this process belongs to it.
fn of_unit(name: &ContainerName) -> Option<Cgroup> {
    let unit = name.unit();
    let mut group = Cgroup::own().ok()?;
    // ExecStopPost= runs in the unit's cgroup on 252 and in `.control` below it on 257.
    while group.name() != unit.as_str() {
        group = group.parent().filter(|parent| parent.path() != "/")?;
    }
    Some(group)
}

/// Waits for the relay, and ends what a start left running that was stopped half-way: with
/// `KillMode=mixed` systemd kills these only after this process, if the unit was stopped.
pub(crate) fn end_engine(name: &ContainerName) -> anyhow::Result<()> {
    let Some(unit) = of_unit(name) else {
        return Ok(());
    };
    let engine = unit.child(ENGINE);
    match engine.wait_empty(RELAY_GRACE) {
        Ok(()) => Ok(()),
        Err(_) => Ok(engine.kill(KILL_DEADLINE)?),
    }
}

/// Processes that the kernel's out-of-memory killer has ended in the unit, since it was made.
pub(crate) fn oom_kills(payload: &Cgroup) -> Option<u64> {
    payload.parent()?.number("memory.events", "oom_kill")
}
