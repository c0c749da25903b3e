// SPDX-License-Identifier: Apache-2.0
//! Everything about one container that is told: its state, its unit, its limits, its run.

use crate::engine::container::Container;
use crate::engine::refusal::{Refusal, Undefined};
use crate::engine::view::definitions::{self, Found};
use crate::engine::view::run::{Ended, Started};
use crate::engine::view::status::{self, Course, Observed, State};
use crate::systemd::manager::Manager;
use crate::systemd::unit::{ActiveState, UnitProperties};

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is doing.
    pub state: State,
    /// What its unit adds to that.
    pub course: Course,
    /// What it was started with; none when nothing of it is in the kernel.
    pub run: Option<Started>,
    /// How its last run ended.
    pub last: Option<Ended>,
    /// systemd's view.
    pub unit: Unit,
    /// Limits in force.
    pub limits: Limits,
    /// What it uses.
    pub usage: Usage,
}

impl From<Observed> for Facts {
    fn from(seen: Observed) -> Self {
        let Observed {
            state,
            unit,
            record,
            last,
        } = seen;
        Self {
            state,
            course: Course::of(unit.active(), unit.text("SubState")),
            run: record.filter(|_| state.is_live()).map(Started::from),
            last: last.map(Ended::from),
            limits: Limits::from(&unit),
            usage: Usage::from(&unit),
            unit: Unit::from(&unit),
        }
    }
}

/// systemd's view of a unit; org.freedesktop.systemd1(5) explains each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// `LoadState`.
    pub load_state: String,
    /// `ActiveState`.
    pub active_state: String,
    /// `SubState`.
    pub sub_state: String,
    /// `UnitFileState`.
    pub unit_file_state: String,
    /// `FreezerState`.
    pub freezer_state: String,
    /// `Result`.
    pub result: String,
    /// `StatusText`.
    pub status_text: String,
    /// `MainPID`; none when there is none.
    pub main_pid: Option<u64>,
    /// `NRestarts`.
    pub restarts: u64,
    /// `InvocationID`.
    pub invocation_id: Option<String>,
    /// `FragmentPath`.
    pub fragment: String,
    /// `DropInPaths`.
    pub drop_ins: Vec<String>,
    /// `NeedDaemonReload`.
    pub need_daemon_reload: bool,
}

impl From<&UnitProperties> for Unit {
    fn from(unit: &UnitProperties) -> Self {
        let text = |property: &str| unit.text(property).to_owned();
        let drop_ins = unit.texts("DropInPaths").into_iter().map(str::to_owned);
        Self {
            load_state: text("LoadState"),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            unit_file_state: text("UnitFileState"),
            freezer_state: text("FreezerState"),
            result: text("Result"),
            status_text: text("StatusText"),
            main_pid: unit.number("MainPID").filter(|pid| *pid != 0),
            restarts: unit.number("NRestarts").unwrap_or(0),
            invocation_id: unit.invocation_id(),
            fragment: text("FragmentPath"),
            drop_ins: drop_ins.collect(),
            need_daemon_reload: unit.is_set("NeedDaemonReload"),
        }
    }
}

/// Limits in force, `systemctl set-property` included; none is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// `MemoryMax`.
    pub memory_max: Option<u64>,
    /// `MemoryHigh`.
    pub memory_high: Option<u64>,
    /// `MemorySwapMax`.
    pub memory_swap_max: Option<u64>,
    /// `TasksMax`.
    pub tasks_max: Option<u64>,
    /// `CPUQuotaPerSecUSec`, as thousandths of a CPU.
    pub cpus_milli: Option<u64>,
    /// `CPUWeight`.
    pub cpu_weight: Option<u64>,
    /// `AllowedCPUs`, in the order of their numbers; none for all.
    pub cpuset: Option<Vec<u32>>,
    /// `IOWeight`.
    pub io_weight: Option<u64>,
}

impl From<&UnitProperties> for Limits {
    fn from(unit: &UnitProperties) -> Self {
        let mask = unit.bytes("AllowedCPUs");
        let cpus = (0_u32..).zip(mask.iter()).flat_map(|(index, byte)| {
            (0..8)
                .filter(move |bit| byte & (1 << bit) != 0)
                .map(move |bit| index * 8 + bit)
        });
        Self {
            memory_max: unit.number("MemoryMax"),
            memory_high: unit.number("MemoryHigh"),
            memory_swap_max: unit.number("MemorySwapMax"),
            tasks_max: unit.number("TasksMax"),
            cpus_milli: unit.number("CPUQuotaPerSecUSec").map(|usec| usec / 1000),
            cpu_weight: unit.number("CPUWeight"),
            cpuset: Some(cpus.collect::<Vec<_>>()).filter(|cpus| !cpus.is_empty()),
            io_weight: unit.number("IOWeight"),
        }
    }
}

/// What a container uses now; none where the kernel does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// `MemoryCurrent`.
    pub memory: Option<u64>,
    /// `TasksCurrent`.
    pub tasks: Option<u64>,
    /// `CPUUsageNSec`.
    pub cpu_nanos: Option<u64>,
}

impl From<&UnitProperties> for Usage {
    fn from(unit: &UnitProperties) -> Self {
        Self {
            memory: unit.number("MemoryCurrent"),
            tasks: unit.number("TasksCurrent"),
            cpu_nanos: unit.number("CPUUsageNSec"),
        }
    }
}

/// As [`status::observe`], of a container that somebody has named.
///
/// # Errors
///
/// [`Undefined`] when nobody knows it, [`Refusal::State`] when it is masked.
pub fn look(container: Container<'_>, manager: &Manager) -> anyhow::Result<Observed> {
    let found = definitions::find(container);
    let seen = status::observe(container, manager, found.past())?;
    if seen.state != State::Unknown {
        return Ok(seen);
    }
    let fact = match found {
        Found::Masked(file) => format!(
            "is masked by '{}': remove that link to use it",
            file.display()
        ),
        Found::Absent if seen.unit.active() != ActiveState::Other => {
            return Err(Undefined::new(container).into());
        }
        Found::Absent | Found::File(_) => format!(
            "is in a state of its unit that wharf does not know ('{}')",
            seen.unit.text("ActiveState")
        ),
    };
    Err(Refusal::State {
        name: container.name().clone(),
        fact,
    }
    .into())
}
