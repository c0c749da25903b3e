// SPDX-License-Identifier: Apache-2.0
//! What `--json` and `inspect` print: a contract with programs, apart from our own types.
//!
//! Within one [`SCHEMA`] keys are added, never removed or given another meaning. An absent fact is
//! `null`, not a missing key. Times are RFC 3339 in UTC, sizes are bytes. wharf(1) says the same.

pub mod image;
pub mod store;

use serde::Serialize;

use crate::engine::view::definitions::Gist;
use crate::engine::view::listing::Listed;
use crate::engine::view::status::{Observed, State};
use crate::name::{ContainerName, UnitName};
use crate::records::history::{Entry, Reason};
use crate::records::run::{ImageRecord, RunRecord};
use crate::systemd::unit::UnitProperties;

/// Version of everything in this module.
pub const SCHEMA: u32 = 1;

/// `ps --json`.
#[derive(Debug, Serialize)]
pub struct List {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Sorted by name.
    pub containers: Vec<Summary>,
}

/// One container of `ps --json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The container's name.
    pub name: ContainerName,
    /// `unknown`, `configured`, `created`, `running`, `stopped`, `exited` or `paused`.
    pub state: State,
    /// The unit.
    pub unit: UnitName,
    /// The unit's `SubState`; `null` while it is not loaded.
    pub sub_state: Option<String>,
    /// The image's reference, or the root directory.
    pub image: Option<String>,
    /// What is wrong with its definition; only looked for with `--all`.
    pub problem: Option<String>,
    /// PID of the container's init.
    pub pid: Option<i32>,
    /// When it was started.
    pub started_at: Option<String>,
    /// Its last run, of a container that does not run.
    pub last_run: Option<Run>,
}

impl From<Listed> for Summary {
    fn from(listed: Listed) -> Self {
        let Listed {
            name,
            state,
            unit,
            record,
            last,
            gist,
        } = listed;
        let record = record.filter(|_| state.is_live());
        let (image, problem) = match gist {
            Some(Gist::Image(image)) => (Some(image), None),
            Some(Gist::Broken(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        let recorded = record.as_ref().map(|r| &r.image);
        let recorded = recorded.or(last.as_ref().and_then(|entry| entry.image.as_ref()));
        Self {
            unit: name.unit(),
            state,
            sub_state: unit.map(|unit| unit.sub_state),
            image: recorded.map(super::phrase::image).or(image),
            problem,
            pid: record.as_ref().map(|record| record.pid),
            started_at: record.map(|record| record.started_at),
            last_run: last.map(Run::from),
            name,
        }
    }
}

/// `history --json`.
#[derive(Debug, Serialize)]
pub struct History {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The container's name.
    pub name: ContainerName,
    /// Oldest first.
    pub runs: Vec<Run>,
}

/// One run that ended.
#[derive(Debug, Serialize)]
pub struct Run {
    /// systemd's id of the run.
    pub invocation_id: Option<String>,
    /// When the process was started; `null` when it never was.
    pub started_at: Option<String>,
    /// When it was cleaned up.
    pub finished_at: String,
    /// `exited`, `signal`, `oom`, `health`, `watchdog`, `timeout`, `engine` or `dependency`.
    pub reason: Reason,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal, without `SIG`.
    pub signal: Option<String>,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// systemd's result of the service.
    pub service_result: Option<String>,
    /// More for people.
    pub message: Option<String>,
    /// What ran.
    pub image: Option<Image>,
    /// The phases of its start.
    pub timing: Vec<Phase>,
}

impl From<Entry> for Run {
    fn from(entry: Entry) -> Self {
        let Entry {
            invocation_id,
            started_at,
            finished_at,
            reason,
            code,
            signal,
            core_dumped,
            service_result,
            message,
            image,
            timing,
        } = entry;
        Self {
            invocation_id,
            started_at,
            finished_at,
            reason,
            code,
            signal,
            core_dumped,
            service_result,
            message,
            image: image.map(Image::from),
            timing: timing.into_iter().map(Phase::from).collect(),
        }
    }
}

/// What a root file system was made of: an image, or a directory.
#[derive(Debug, Serialize)]
pub struct Image {
    /// The reference as written in the definition.
    pub reference: Option<String>,
    /// The manifest's digest.
    pub digest: Option<String>,
    /// The directory.
    pub rootfs: Option<String>,
}

impl From<ImageRecord> for Image {
    fn from(record: ImageRecord) -> Self {
        match record {
            ImageRecord::Image { reference, digest } => Self {
                reference: Some(reference),
                digest: Some(digest),
                rootfs: None,
            },
            ImageRecord::Rootfs(path) => Self {
                reference: None,
                digest: None,
                rootfs: Some(path.display().to_string()),
            },
        }
    }
}

/// One phase of a start.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// How long it took, in microseconds.
    pub micros: u64,
}

impl From<crate::records::run::Phase> for Phase {
    fn from(phase: crate::records::run::Phase) -> Self {
        let crate::records::run::Phase { name, micros } = phase;
        Self { name, micros }
    }
}

/// `inspect`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// [`SCHEMA`].
    pub schema: u32,
    /// In the order asked for.
    pub containers: Vec<Inspected>,
}

/// Everything about one container.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// The container's name.
    pub name: ContainerName,
    /// As in [`Summary`].
    pub state: State,
    /// The file that defines it.
    pub definition: Option<String>,
    /// What it was started with; `null` when it does not run.
    pub run: Option<Started>,
    /// systemd's view.
    pub unit: Unit,
    /// Limits in force.
    pub limits: Limits,
    /// What it uses.
    pub usage: Usage,
    /// What its files take; `null` unless it was asked for.
    pub size: Option<Size>,
    /// Runs that ended, oldest first.
    pub history: Vec<Run>,
}

/// Bytes of content.
#[derive(Debug, Serialize)]
pub struct Size {
    /// Of the image's layers, unpacked; `null` without an image.
    pub image: Option<u64>,
    /// Of the writable layer, without volumes; `null` without an image.
    pub writable: Option<u64>,
}

impl From<crate::engine::files::size::Size> for Size {
    fn from(size: crate::engine::files::size::Size) -> Self {
        let crate::engine::files::size::Size { image, writable } = size;
        Self { image, writable }
    }
}

impl Inspected {
    /// Takes the facts together.
    pub fn new(name: ContainerName, seen: Observed, history: Vec<Entry>) -> Self {
        let Observed {
            state,
            unit,
            record,
            last: _,
        } = seen;
        Self {
            state,
            definition: None,
            size: None,
            run: record.filter(|_| state.is_live()).map(Started::from),
            limits: Limits::new(&unit),
            usage: Usage::new(&unit),
            unit: Unit::new(&name, &unit),
            history: history.into_iter().map(Run::from).collect(),
            name,
        }
    }
}

/// What a run was started with.
#[derive(Debug, Serialize)]
pub struct Started {
    /// The container's id.
    pub id: String,
    /// systemd's id of the run.
    pub invocation_id: Option<String>,
    /// PID of the container's init.
    pub pid: i32,
    /// When the process was started.
    pub started_at: String,
    /// The OCI runtime's program.
    pub runtime: String,
    /// What runs.
    pub image: Image,
    /// The command line.
    pub args: Vec<String>,
    /// The environment, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The stop signal.
    pub stop_signal: String,
    /// The payload's cgroup.
    pub cgroup: String,
    /// The definition files it was made from.
    pub sources: Vec<String>,
    /// The phases of its start.
    pub timing: Vec<Phase>,
}

impl From<RunRecord> for Started {
    fn from(record: RunRecord) -> Self {
        let RunRecord {
            version: _,
            name: _,
            id,
            invocation_id,
            boot_id: _,
            pid,
            pid_start_ticks: _,
            started_at,
            runtime,
            image,
            payload_cgroup,
            args,
            env,
            stop_signal,
            oom_kills_before: _,
            timing,
            sources,
            identifier: _,
            stderr_priority: _,
            init: _,
            poststop: _,
        } = record;
        let text = |path: std::path::PathBuf| path.display().to_string();
        Self {
            id: id.as_str().to_owned(),
            invocation_id,
            pid,
            started_at,
            runtime: text(runtime),
            image: Image::from(image),
            args,
            env,
            stop_signal,
            cgroup: payload_cgroup,
            sources: sources.into_iter().map(text).collect(),
            timing: timing.into_iter().map(Phase::from).collect(),
        }
    }
}

/// systemd's view of the unit; org.freedesktop.systemd1(5) explains each.
#[derive(Debug, Serialize)]
pub struct Unit {
    /// The unit's name.
    pub name: UnitName,
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
    /// `MainPID`; `null` when there is none.
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

impl Unit {
    fn new(name: &ContainerName, unit: &UnitProperties) -> Self {
        let text = |property: &str| unit.text(property).to_owned();
        let drop_ins = unit.texts("DropInPaths").into_iter().map(str::to_owned);
        Self {
            name: name.unit(),
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

/// Limits in force, `systemctl set-property` included; `null` is no limit.
#[derive(Debug, Serialize)]
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
    /// `AllowedCPUs`, in the order of their numbers; `null` for all.
    pub cpuset: Option<Vec<u32>>,
    /// `IOWeight`.
    pub io_weight: Option<u64>,
}

impl Limits {
    /// From the unit's properties.
    pub fn new(unit: &UnitProperties) -> Self {
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

/// What a container uses now; `null` where the kernel does not count.
#[derive(Debug, Serialize)]
pub struct Usage {
    /// `MemoryCurrent`.
    pub memory: Option<u64>,
    /// `TasksCurrent`.
    pub tasks: Option<u64>,
    /// `CPUUsageNSec`.
    pub cpu_nanos: Option<u64>,
}

impl Usage {
    /// From the unit's properties.
    pub fn new(unit: &UnitProperties) -> Self {
        Self {
            memory: unit.number("MemoryCurrent"),
            tasks: unit.number("TasksCurrent"),
            cpu_nanos: unit.number("CPUUsageNSec"),
        }
    }
}

/// One line of `events --json`, which prints one object a line.
#[derive(Debug, Serialize)]
pub struct Event {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When journald received it.
    pub time: String,
    /// `started`, `exited`, `engine-failed`, `relay-died` or `stop-signal-ignored`.
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
