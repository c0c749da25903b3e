// SPDX-License-Identifier: Apache-2.0
//! The run-time record of a container: `/run/wharf/bundles/NAME/state.json`.
//!
//! Only facts that neither systemd nor the OCI runtime can tell. Whether the container runs is the
//! unit's state; its exit is the unit's; this says what was started and with what. Gone after a
//! boot, written once by `start`, read by `cleanup` and the commands, never updated.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::definition::Hook;
use crate::name::{ContainerId, ContainerName};
use crate::paths::Paths;
use crate::sys;

/// Version of the record. It is raised only when a reader of the old one would be misled, which an
/// addition never does; a record of another version counts as one that cannot be read.
pub const VERSION: u32 = 1;

/// What `start` knew when it handed the container over.
///
/// Without a default are only the fields that say which process, runtime and image it is about: with
/// one of them missing there is nothing to go by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The container.
    pub name: ContainerName,
    /// Its stable id, the OCI runtime's container id.
    pub id: ContainerId,
    /// systemd's id of this run (`$INVOCATION_ID`); none in a person's shell.
    #[serde(default)]
    pub invocation_id: Option<String>,
    /// The kernel's boot id.
    #[serde(default)]
    pub boot_id: String,
    /// The container's init.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot: tells a reused PID.
    pub pid_start_ticks: u64,
    /// When the process was started, RFC 3339 with microseconds, UTC.
    #[serde(default)]
    pub started_at: String,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Image reference and manifest digest, or the rootfs directory.
    pub image: ImageRecord,
    /// The payload's cgroup, relative to the cgroup2 mount.
    pub payload_cgroup: String,
    /// The command line as put into config.json.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment variables of the first process, as `KEY=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// The stop signal, a name of signal(7).
    #[serde(default = "sigterm")]
    pub stop_signal: String,
    /// `SYSLOG_IDENTIFIER=` of its lines; empty for the container's name.
    #[serde(default)]
    pub identifier: String,
    /// Journal priority of standard error's lines, 0 to 7.
    #[serde(default = "info")]
    pub stderr_priority: u8,
    /// Whether a small init of ours is PID 1.
    #[serde(default)]
    pub init: bool,
    /// The hooks that `cleanup` runs: those of the definition that was started, whatever it has
    /// become since.
    #[serde(default)]
    pub poststop: Vec<HookRecord>,
    /// `memory.events` oom_kill of the unit's cgroup before the start.
    #[serde(default)]
    pub oom_kills_before: u64,
    /// Durations of the start's phases, in microseconds, in order.
    #[serde(default)]
    pub timing: Vec<Phase>,
    /// The definition files the container was made from.
    #[serde(default)]
    pub sources: Vec<PathBuf>,
}

fn sigterm() -> String {
    "SIGTERM".to_owned()
}

/// The journal's level of a line that says nothing else.
fn info() -> u8 {
    6
}

impl RunRecord {
    /// Whether the process that the record names still is that process.
    pub fn is_running(&self) -> bool {
        sys::process::start_ticks(self.pid).is_ok_and(|ticks| ticks == self.pid_start_ticks)
    }

    /// `SYSLOG_IDENTIFIER=` of the container's lines.
    pub fn identifier(&self) -> &str {
        match self.identifier.as_str() {
            "" => self.name.as_str(),
            identifier => identifier,
        }
    }
}

/// A hook of the definition that was started. A type of the record's own: the definition's may change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRecord {
    /// Absolute host path.
    pub path: PathBuf,
    /// Arguments, the program's name included.
    #[serde(default)]
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Deadline.
    pub timeout: Duration,
}

impl From<Hook> for HookRecord {
    fn from(hook: Hook) -> Self {
        let Hook {
            path,
            args,
            env,
            timeout,
        } = hook;
        Self {
            path,
            args,
            env,
            timeout,
        }
    }
}

impl From<&HookRecord> for Hook {
    fn from(record: &HookRecord) -> Self {
        Self {
            path: record.path.clone(),
            args: record.args.clone(),
            env: record.env.clone(),
            timeout: record.timeout,
        }
    }
}

/// What the root file system was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageRecord {
    /// An image.
    Image {
        /// The reference as written in the definition.
        reference: String,
        /// The manifest's digest.
        digest: String,
    },
    /// A host directory.
    Rootfs(PathBuf),
}

/// One phase of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `load`, `image`, `mount`, `bundle`, `create`, `adopt`.
    pub name: String,
    /// Microseconds.
    pub micros: u64,
}

fn record_path(paths: &Paths, name: &ContainerName) -> PathBuf {
    paths.container_runtime(name).join("state.json")
}

/// Writes the record of a container that is about to start.
pub fn write(paths: &Paths, record: &RunRecord) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(record)?;
    sys::fs::write_atomic(
        &record_path(paths, &record.name),
        &json,
        0o600,
        sys::fs::Durability::Memory,
    )
    .with_context(|| format!("writing the record of container '{}'", record.name))
}

/// The record of a container as it was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Recorded {
    /// None: no container was handed over, or it was cleaned up.
    Absent,
    /// One that is damaged, or of a version that cannot be read. It was written all the same: the
    /// kernel and systemd are asked instead (threats K8).
    Unreadable,
    /// One that was read.
    Known(Box<RunRecord>),
}

impl Recorded {
    /// The record, if it could be read.
    pub fn known(&self) -> Option<&RunRecord> {
        match self {
            Self::Known(record) => Some(record),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// Whether a container was handed over, be its record readable or not.
    pub fn exists(&self) -> bool {
        *self != Self::Absent
    }
}

/// What a container that was handed over is made of, be its record of this version of wharf or of
/// another one; none when there is no record.
///
/// # Errors
///
/// The record cannot be read or understood: the container may be made of any image.
pub fn load_image(paths: &Paths, name: &ContainerName) -> anyhow::Result<Option<ImageRecord>> {
    #[derive(Deserialize)]
    struct Gist {
        image: ImageRecord,
    }
    let path = record_path(paths, name);
    let read = || -> anyhow::Result<Option<ImageRecord>> {
        let text = match sys::fs::read_to_string(&path) {
            Err(err) if err.is_absent() => return Ok(None),
            other => other?,
        };
        let Gist { image } = serde_json::from_str(&text)?;
        Ok(Some(image))
    };
    read().with_context(|| {
        format!(
            "which image container '{name}' runs cannot be told, as its record '{}' is damaged; \
             restart or stop the container first",
            path.display()
        )
    })
}

/// Reads the record.
pub fn read(paths: &Paths, name: &ContainerName) -> Recorded {
    let text = match sys::fs::read_to_string(&record_path(paths, name)) {
        Ok(text) => text,
        Err(err) if err.is_absent() => return Recorded::Absent,
        Err(_) => return Recorded::Unreadable,
    };
    match serde_json::from_str::<RunRecord>(&text) {
        Ok(record) if record.version == VERSION && record.name == *name => {
            Recorded::Known(Box::new(record))
        }
        Ok(_) | Err(_) => Recorded::Unreadable,
    }
}

/// The record; none when there is none that can be read.
pub fn load(paths: &Paths, name: &ContainerName) -> Option<RunRecord> {
    match read(paths, name) {
        Recorded::Known(record) => Some(*record),
        Recorded::Absent | Recorded::Unreadable => None,
    }
}
