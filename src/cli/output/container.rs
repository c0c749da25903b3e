// SPDX-License-Identifier: Apache-2.0
//! Containers: their lists, their runs, everything about one.

use std::path::PathBuf;

use serde::Serialize;

use super::SCHEMA;
use crate::engine::files::size;
use crate::engine::view::definitions::Gist;
use crate::engine::view::facts::{self, Facts};
use crate::engine::view::listing::Listed;
use crate::engine::view::run::{self, Ended};
use crate::name::{ContainerName, UnitName};

/// `ps --json`.
#[derive(Debug, Serialize)]
pub struct List {
    schema: u32,
    /// Sorted by name.
    containers: Vec<Summary>,
}

impl List {
    /// These.
    pub fn new(containers: Vec<Listed>) -> Self {
        Self {
            schema: SCHEMA,
            containers: containers.into_iter().map(Summary::from).collect(),
        }
    }
}

/// One container of `ps --json`.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The container's name.
    pub name: ContainerName,
    /// `unknown`, `configured`, `created`, `running`, `stopped`, `exited` or `paused`.
    pub state: &'static str,
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
            sub_state,
            course: _,
            run,
            last,
            gist,
        } = listed;
        let run = run.filter(|_| state.is_live());
        let (image, problem) = match gist {
            Some(Gist::Image(image)) => (Some(image), None),
            Some(Gist::Broken(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        let root = run.as_ref().map(|run| &run.root);
        let root = root.or(last.as_ref().and_then(|ended| ended.root.as_ref()));
        Self {
            unit: name.unit(),
            state: state.word(),
            sub_state,
            image: root.map(ToString::to_string).or(image),
            problem,
            pid: run.as_ref().map(|run| run.pid),
            started_at: run.map(|run| run.started_at),
            last_run: last.map(Run::from),
            name,
        }
    }
}

/// `history --json`.
#[derive(Debug, Serialize)]
pub struct History {
    schema: u32,
    /// The container's name.
    name: ContainerName,
    /// Oldest first.
    runs: Vec<Run>,
}

impl History {
    /// That of the container.
    pub fn new(name: ContainerName, runs: Vec<Ended>) -> Self {
        Self {
            schema: SCHEMA,
            name,
            runs: runs.into_iter().map(Run::from).collect(),
        }
    }
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
    pub reason: &'static str,
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

impl From<Ended> for Run {
    fn from(ended: Ended) -> Self {
        let Ended {
            invocation_id,
            started_at,
            finished_at,
            reason,
            outcome: _,
            code,
            signal,
            core_dumped,
            service_result,
            message,
            root,
            timing,
        } = ended;
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
            image: root.map(Image::from),
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

impl From<run::Root> for Image {
    fn from(root: run::Root) -> Self {
        match root {
            run::Root::Image { reference, digest } => Self {
                reference: Some(reference),
                digest: Some(digest),
                rootfs: None,
            },
            run::Root::Directory(path) => Self {
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

impl From<run::Phase> for Phase {
    fn from(phase: run::Phase) -> Self {
        let run::Phase { name, micros } = phase;
        Self { name, micros }
    }
}

/// `inspect`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    schema: u32,
    /// In the order asked for.
    containers: Vec<Inspected>,
}

impl Inspection {
    /// These.
    pub fn new(containers: Vec<Inspected>) -> Self {
        Self {
            schema: SCHEMA,
            containers,
        }
    }
}

/// Everything about one container.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// The container's name.
    pub name: ContainerName,
    /// As in [`Summary`].
    pub state: &'static str,
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

impl From<size::Size> for Size {
    fn from(size: size::Size) -> Self {
        let size::Size { image, writable } = size;
        Self { image, writable }
    }
}

impl Inspected {
    /// Takes the facts together.
    pub fn new(name: ContainerName, facts: Facts, history: Vec<Ended>) -> Self {
        let Facts {
            state,
            course: _,
            run,
            last: _,
            unit,
            limits,
            usage,
        } = facts;
        Self {
            state: state.word(),
            definition: None,
            size: None,
            run: run.map(Started::from),
            limits: Limits::from(limits),
            usage: Usage::from(usage),
            unit: Unit::new(name.unit(), unit),
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

impl From<run::Started> for Started {
    fn from(started: run::Started) -> Self {
        let run::Started {
            id,
            invocation_id,
            pid,
            started_at,
            runtime,
            root,
            args,
            env,
            stop_signal,
            cgroup,
            sources,
            timing,
        } = started;
        let text = |path: PathBuf| path.display().to_string();
        Self {
            id,
            invocation_id,
            pid,
            started_at,
            runtime: text(runtime),
            image: Image::from(root),
            args,
            env,
            stop_signal,
            cgroup,
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
    fn new(name: UnitName, unit: facts::Unit) -> Self {
        let facts::Unit {
            load_state,
            active_state,
            sub_state,
            unit_file_state,
            freezer_state,
            result,
            status_text,
            main_pid,
            restarts,
            invocation_id,
            fragment,
            drop_ins,
            need_daemon_reload,
        } = unit;
        Self {
            name,
            load_state,
            active_state,
            sub_state,
            unit_file_state,
            freezer_state,
            result,
            status_text,
            main_pid,
            restarts,
            invocation_id,
            fragment,
            drop_ins,
            need_daemon_reload,
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

impl From<facts::Limits> for Limits {
    fn from(limits: facts::Limits) -> Self {
        let facts::Limits {
            memory_max,
            memory_high,
            memory_swap_max,
            tasks_max,
            cpus_milli,
            cpu_weight,
            cpuset,
            io_weight,
        } = limits;
        Self {
            memory_max,
            memory_high,
            memory_swap_max,
            tasks_max,
            cpus_milli,
            cpu_weight,
            cpuset,
            io_weight,
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

impl From<facts::Usage> for Usage {
    fn from(usage: facts::Usage) -> Self {
        let facts::Usage {
            memory,
            tasks,
            cpu_nanos,
        } = usage;
        Self {
            memory,
            tasks,
            cpu_nanos,
        }
    }
}
