// SPDX-License-Identifier: Apache-2.0
//! The state of a container, derived, never stored.
//!
//! The unit's state, the payload's cgroup and the exit history together make one of libpod's seven
//! states. [`derive()`] is the only place that knows how; `ps`, `status`, `inspect` and the
//! commands' refusals all ask it, so they cannot disagree.

use std::fmt;

use anyhow::Context as _;

use crate::engine::container::Container;
use crate::paths::Paths;
use crate::records::history::{self, Entry};
use crate::records::run::{self, RunRecord};
use crate::sys::cgroup::Cgroup;
use crate::systemd::manager::Manager;
use crate::systemd::unit::{ActiveState, ListedUnit, UnitProperties};

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it, or systemd's state makes no sense for a container.
    Unknown,
    /// It is defined and has never run.
    Configured,
    /// It is being made; its process does not run yet.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, cleaning up goes on.
    Stopped,
    /// It ran and was cleaned up.
    Exited,
    /// Its processes are frozen.
    Paused,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Unknown,
        Self::Configured,
        Self::Created,
        Self::Running,
        Self::Stopped,
        Self::Exited,
        Self::Paused,
    ];

    /// The state's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Configured => "configured",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Exited => "exited",
            Self::Paused => "paused",
        }
    }

    /// Whether something of the container exists in the kernel.
    pub fn is_live(self) -> bool {
        match self {
            Self::Created | Self::Running | Self::Stopped | Self::Paused => true,
            Self::Unknown | Self::Configured | Self::Exited => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What the kernel says about the payload's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// No process.
    Absent,
    /// Processes.
    Alive,
    /// Frozen processes.
    Frozen,
}

/// What is left of earlier runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Neither a definition nor a run.
    Unheard,
    /// A definition, and no run.
    Defined,
    /// A run.
    Ran,
}

/// Makes one state of what systemd, the kernel and the history say.
pub fn derive(active: ActiveState, sub_state: &str, payload: Payload, past: Past) -> State {
    let at_rest = match past {
        Past::Unheard => State::Unknown,
        Past::Defined => State::Configured,
        Past::Ran => State::Exited,
    };
    match (active, payload) {
        // A oneshot with RemainAfterExit=.
        (ActiveState::Active, Payload::Absent) if sub_state == "exited" => State::Exited,
        (ActiveState::Active | ActiveState::Reloading, Payload::Frozen) => State::Paused,
        (ActiveState::Active | ActiveState::Reloading, Payload::Absent | Payload::Alive) => {
            State::Running
        }
        (ActiveState::Activating, Payload::Absent) if sub_state.starts_with("auto-restart") => {
            at_rest
        }
        (ActiveState::Activating, Payload::Absent) => State::Created,
        (ActiveState::Deactivating, Payload::Absent) => State::Stopped,
        // A oneshot runs while its unit is activating; a stopping container runs until it ends.
        (ActiveState::Activating | ActiveState::Deactivating, Payload::Alive) => State::Running,
        (ActiveState::Activating | ActiveState::Deactivating, Payload::Frozen) => State::Paused,
        (ActiveState::Inactive | ActiveState::Failed, _) => at_rest,
        (ActiveState::Other, _) => State::Unknown,
    }
}

/// What a unit's own state adds to its container's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Nothing.
    Steady,
    /// It is being stopped.
    Stopping,
    /// It waits to be started again.
    Restarting,
    /// It has failed.
    Failed,
}

impl Course {
    /// That of a unit.
    pub fn of(active: ActiveState, sub_state: &str) -> Self {
        match active {
            ActiveState::Deactivating => Self::Stopping,
            ActiveState::Failed => Self::Failed,
            ActiveState::Active
            | ActiveState::Reloading
            | ActiveState::Inactive
            | ActiveState::Activating
            | ActiveState::Other => match sub_state.starts_with("auto-restart") {
                true => Self::Restarting,
                false => Self::Steady,
            },
        }
    }
}

/// Reads payload cgroups.
#[derive(Debug)]
pub struct Probe(Option<Cgroup>);

impl Probe {
    /// Finds the cgroup file system; without one every payload is absent.
    pub fn new() -> Self {
        Self(Cgroup::at("/").ok())
    }

    /// The payload of a recorded run.
    pub fn payload(&self, record: Option<&RunRecord>) -> Payload {
        let (Some(root), Some(record)) = (&self.0, record) else {
            return Payload::Absent;
        };
        let group = root.child(record.payload_cgroup.trim_start_matches('/'));
        let is_set = |key: &str| group.number("cgroup.events", key) == Some(1);
        match (is_set("populated"), is_set("frozen")) {
            (false, _) => Payload::Absent,
            (true, false) => Payload::Alive,
            (true, true) => Payload::Frozen,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

/// Everything known about one container.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What it is doing.
    pub state: State,
    /// What systemd says.
    pub unit: UnitProperties,
    /// What its current run was started with.
    pub record: Option<RunRecord>,
    /// How its last run ended.
    pub last: Option<Entry>,
}

/// Asks systemd, the kernel and the history about one container.
pub fn observe(
    container: Container<'_>,
    manager: &Manager,
    defined: Past,
) -> anyhow::Result<Observed> {
    let (paths, name) = (container.paths(), container.name());
    let unit = manager.properties(&name.unit())?;
    let last = history::last(paths, name)?;
    let id = unit.invocation_id();
    // A record of an earlier run says nothing about this one.
    let record = run::load(paths, name).filter(|record| record.invocation_id == id);
    let payload = match Probe::new().payload(record.as_ref()) {
        Payload::Alive | Payload::Absent if unit.is_frozen() => Payload::Frozen,
        seen => seen,
    };
    let past = past(defined, last.as_ref());
    Ok(Observed {
        state: derive(unit.active(), unit.text("SubState"), payload, past),
        unit,
        record,
        last,
    })
}

/// Connects to the manager that runs the containers.
pub fn connect(paths: &Paths) -> anyhow::Result<Manager> {
    Manager::connect(paths.scope()).context("connecting to systemd")
}

/// The state of a container of which a listing said this much.
pub fn of_listed(
    unit: Option<&ListedUnit>,
    payload: Payload,
    defined: Past,
    last: Option<&Entry>,
) -> State {
    let past = past(defined, last);
    match unit {
        Some(unit) => derive(unit.active, &unit.sub_state, payload, past),
        None => derive(ActiveState::Inactive, "dead", Payload::Absent, past),
    }
}

/// An entry about a start that failed before there was a process is no run.
fn past(defined: Past, last: Option<&Entry>) -> Past {
    match last {
        Some(entry) if entry.started_at.is_some() => Past::Ran,
        Some(_) | None => defined,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derive_table() {
        use ActiveState as A;
        use Payload as P;
        use State as S;
        let cases = [
            (A::Inactive, "dead", P::Absent, Past::Unheard, S::Unknown),
            (A::Inactive, "dead", P::Absent, Past::Defined, S::Configured),
            (A::Inactive, "dead", P::Absent, Past::Ran, S::Exited),
            (A::Failed, "failed", P::Absent, Past::Ran, S::Exited),
            (A::Failed, "failed", P::Absent, Past::Defined, S::Configured),
            (A::Activating, "start", P::Absent, Past::Ran, S::Created),
            (A::Activating, "start", P::Alive, Past::Defined, S::Running),
            (
                A::Activating,
                "auto-restart",
                P::Absent,
                Past::Ran,
                S::Exited,
            ),
            (
                A::Activating,
                "auto-restart-queued",
                P::Absent,
                Past::Ran,
                S::Exited,
            ),
            (A::Active, "running", P::Alive, Past::Defined, S::Running),
            (A::Active, "running", P::Absent, Past::Defined, S::Running),
            (A::Active, "running", P::Frozen, Past::Ran, S::Paused),
            (A::Active, "exited", P::Absent, Past::Ran, S::Exited),
            (A::Reloading, "reload", P::Alive, Past::Ran, S::Running),
            (
                A::Deactivating,
                "stop-sigterm",
                P::Alive,
                Past::Ran,
                S::Running,
            ),
            (
                A::Deactivating,
                "stop-sigterm",
                P::Frozen,
                Past::Ran,
                S::Paused,
            ),
            (
                A::Deactivating,
                "stop-post",
                P::Absent,
                Past::Ran,
                S::Stopped,
            ),
            (A::Other, "?", P::Alive, Past::Ran, S::Unknown),
        ];
        for (active, sub, payload, past, expected) in cases {
            assert_eq!(
                derive(active, sub, payload, past),
                expected,
                "{active:?} {sub} {payload:?} {past:?}"
            );
        }
    }
}
