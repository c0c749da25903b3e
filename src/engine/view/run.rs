// SPDX-License-Identifier: Apache-2.0
//! Runs of containers as they are told: what one was started with, and how one ended.
//!
//! The records hold the same and what only the engine needs; their form is that of files which
//! another version may read, and it shows here alone.

use std::path::PathBuf;

use crate::engine::container::Container;
use crate::records::history::{self, Entry, Reason};
use crate::records::run::{self, ImageRecord, RunRecord};

/// What a root file system was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// An image.
    Image {
        /// The reference as written in the definition.
        reference: String,
        /// The manifest's digest.
        digest: String,
    },
    /// A directory of the host.
    Directory(PathBuf),
}

impl From<ImageRecord> for Root {
    fn from(record: ImageRecord) -> Self {
        match record {
            ImageRecord::Image { reference, digest } => Self::Image { reference, digest },
            ImageRecord::Rootfs(path) => Self::Directory(path),
        }
    }
}

/// Root file systems as people name them: by the reference, or by the directory.
impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Image { reference, .. } => f.write_str(reference),
            Self::Directory(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One phase of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// A run that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The container's id.
    pub id: String,
    /// systemd's id of the run.
    pub invocation_id: Option<String>,
    /// PID of the container's init.
    pub pid: i32,
    /// When the process was started, RFC 3339, UTC.
    pub started_at: String,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// What runs.
    pub root: Root,
    /// The command line.
    pub args: Vec<String>,
    /// The environment, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The stop signal.
    pub stop_signal: String,
    /// The payload's cgroup.
    pub cgroup: String,
    /// The definition files it was made from.
    pub sources: Vec<PathBuf>,
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
        Self {
            id: id.as_str().to_owned(),
            invocation_id,
            pid,
            started_at,
            runtime,
            root: image.into(),
            args,
            env,
            stop_signal,
            cgroup: payload_cgroup,
            sources,
            timing: timing.into_iter().map(Phase::from).collect(),
        }
    }
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// systemd's id of the run; none when it was started in a person's shell.
    pub invocation_id: Option<String>,
    /// When the process was started, RFC 3339, UTC; none when it never was.
    pub started_at: Option<String>,
    /// When it was cleaned up, RFC 3339, UTC.
    pub finished_at: String,
    /// `exited`, `signal`, `oom`, `health`, `watchdog`, `timeout`, `engine` or `dependency`.
    pub reason: &'static str,
    /// The same for people, with the code or the signal.
    pub outcome: String,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal, without `SIG`.
    pub signal: Option<String>,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// systemd's result of the service.
    pub service_result: Option<String>,
    /// One line for people where there is more to say, such as the engine's error.
    pub message: Option<String>,
    /// What ran.
    pub root: Option<Root>,
    /// The phases of its start.
    pub timing: Vec<Phase>,
}

impl From<Entry> for Ended {
    fn from(entry: Entry) -> Self {
        let (reason, outcome) = (word(entry.reason), outcome(&entry));
        let Entry {
            invocation_id,
            started_at,
            finished_at,
            reason: _,
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
            outcome,
            code,
            signal,
            core_dumped,
            service_result,
            message,
            root: image.map(Root::from),
            timing: timing.into_iter().map(Phase::from).collect(),
        }
    }
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Exited => "exited",
        Reason::Signal => "signal",
        Reason::Oom => "oom",
        Reason::Health => "health",
        Reason::Watchdog => "watchdog",
        Reason::Timeout => "timeout",
        Reason::Engine => "engine",
        Reason::Dependency => "dependency",
    }
}

fn outcome(entry: &Entry) -> String {
    let code = || entry.code.map_or_else(|| "?".to_owned(), |c| c.to_string());
    let signal = || entry.signal.as_deref().unwrap_or("?").to_owned();
    match entry.reason {
        Reason::Exited => format!("exited ({})", code()),
        Reason::Signal => format!("killed by SIG{}", signal()),
        Reason::Oom => "out of memory".to_owned(),
        Reason::Health => "unhealthy".to_owned(),
        Reason::Watchdog => "watchdog".to_owned(),
        Reason::Timeout => "timed out".to_owned(),
        Reason::Engine => "failed to start".to_owned(),
        Reason::Dependency => "dependency failed".to_owned(),
    }
}

/// The runs of a container that ended, oldest first.
pub fn ended(container: Container<'_>) -> anyhow::Result<Vec<Ended>> {
    let runs = history::load(container.paths(), container.name())?.into_iter();
    Ok(runs.map(Ended::from).collect())
}
