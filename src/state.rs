// SPDX-License-Identifier: Apache-2.0
//! The run-time record of a container: `/run/wharf/bundles/NAME/state.json`.
//!
//! Only facts that neither systemd nor the OCI runtime can tell. Whether the container runs is the
//! unit's state; its exit is the unit's; this says what was started and with what. Gone after a
//! boot, written once by `start`, read by `cleanup` and the commands, never updated.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::definition::Hook;
use crate::name::{ContainerId, ContainerName};
use crate::paths::Paths;
use crate::sys;

/// Version of the record; another one is treated as absent, as after an upgrade.
pub const VERSION: u32 = 1;

/// What `start` knew when it handed the container over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The container.
    pub name: ContainerName,
    /// Its stable id, the OCI runtime's container id.
    pub id: ContainerId,
    /// systemd's id of this run (`$INVOCATION_ID`); none in a person's shell.
    pub invocation_id: Option<String>,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The container's init.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks since boot: tells a reused PID.
    pub pid_start_ticks: u64,
    /// When the process was started, RFC 3339 with microseconds, UTC.
    pub started_at: String,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Image reference and manifest digest, or the rootfs directory.
    pub image: ImageRecord,
    /// The payload's cgroup, relative to the cgroup2 mount.
    pub payload_cgroup: String,
    /// The command line as put into config.json.
    pub args: Vec<String>,
    /// Environment variables of the first process, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The stop signal, a name of signal(7).
    pub stop_signal: String,
    /// `SYSLOG_IDENTIFIER=` of its lines.
    pub identifier: String,
    /// Journal priority of standard error's lines, 0 to 7.
    pub stderr_priority: u8,
    /// Whether a small init of ours is PID 1.
    pub init: bool,
    /// The hooks that `cleanup` runs: those of the definition that was started, whatever it has
    /// become since.
    pub poststop: Vec<Hook>,
    /// `memory.events` oom_kill of the unit's cgroup before the start.
    pub oom_kills_before: u64,
    /// Durations of the start's phases, in microseconds, in order.
    pub timing: Vec<Phase>,
    /// The definition files the container was made from.
    pub sources: Vec<PathBuf>,
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

/// Whether a container was handed over, be its record readable or not.
pub fn is_recorded(paths: &Paths, name: &ContainerName) -> bool {
    record_path(paths, name).symlink_metadata().is_ok()
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

/// Reads the record; none when there is none, or when another version of wharf wrote it, or when
/// it is damaged: the kernel and systemd are asked instead (threats K8).
pub fn load(paths: &Paths, name: &ContainerName) -> Option<RunRecord> {
    let text = sys::fs::read_to_string(&record_path(paths, name)).ok()?;
    let record: RunRecord = serde_json::from_str(&text).ok()?;
    (record.version == VERSION && record.name == *name).then_some(record)
}
