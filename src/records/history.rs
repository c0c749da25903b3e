// SPDX-License-Identifier: Apache-2.0
//! The exit history of a container: `/var/lib/wharf/containers/NAME/history.jsonl`.
//!
//! One line of JSON a run, appended by `cleanup`, oldest first, bounded. It survives reboots. A
//! torn last line (power cut) is skipped, never an error.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::name::ContainerName;
use crate::paths::Paths;
use crate::records::run::{ImageRecord, Phase};
use crate::sys;

/// Entries kept of one container.
pub const ENTRIES_MAX: usize = 100;

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// systemd's id of the run; none when it was started in a person's shell.
    #[serde(default)]
    pub invocation_id: Option<String>,
    /// When the process was started, RFC 3339, UTC; none when it never was.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When `cleanup` ran, RFC 3339, UTC.
    pub finished_at: String,
    /// Why the run ended.
    pub reason: Reason,
    /// Exit code of the process, if it exited.
    #[serde(default)]
    pub code: Option<i32>,
    /// Signal that ended it, without `SIG`, if one did.
    #[serde(default)]
    pub signal: Option<String>,
    /// Whether a core was dumped.
    #[serde(default)]
    pub core_dumped: bool,
    /// systemd's `$SERVICE_RESULT`.
    #[serde(default)]
    pub service_result: Option<String>,
    /// One line for people where there is more to say, such as the engine's error.
    #[serde(default)]
    pub message: Option<String>,
    /// What was running.
    #[serde(default)]
    pub image: Option<ImageRecord>,
    /// The start's phases.
    #[serde(default)]
    pub timing: Vec<Phase>,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The process exited by itself, with whatever code.
    Exited,
    /// A signal ended it.
    Signal,
    /// The kernel's out-of-memory killer did (memory.events says so).
    Oom,
    /// Its health check failed.
    Health,
    /// systemd's watchdog.
    Watchdog,
    /// It did not start or stop in time.
    Timeout,
    /// wharf could not start it.
    Engine,
    /// What it depends on did not start.
    Dependency,
}

fn history_path(paths: &Paths, name: &ContainerName) -> PathBuf {
    paths.container_state(name).join("history.jsonl")
}

/// Appends an entry; every now and then the file is cut to the newest [`ENTRIES_MAX`].
pub fn append(paths: &Paths, name: &ContainerName, entry: &Entry) -> anyhow::Result<()> {
    append_line(paths, name, entry)
        .with_context(|| format!("writing the exit history of container '{name}'"))
}

fn append_line(paths: &Paths, name: &ContainerName, entry: &Entry) -> anyhow::Result<()> {
    let path = history_path(paths, name);
    sys::fs::ensure_dir(&paths.container_state(name), 0o700)?;
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(&path)?;
    if is_torn(&mut file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    // Rewriting at twice the bound makes the cost of cutting one in a hundred exits.
    let text = sys::fs::read_to_string(&path)?;
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > 2 * ENTRIES_MAX {
        let kept = lines.split_at(lines.len() - ENTRIES_MAX).1.join("\n") + "\n";
        sys::fs::write_atomic(&path, kept.as_bytes(), 0o600, sys::fs::Durability::Disk)?;
    }
    Ok(())
}

/// Whether the last line has no end, after a power cut: the next one must not be part of it.
fn is_torn(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The newest [`ENTRIES_MAX`] entries, oldest first; none for a container that never ran.
pub fn load(paths: &Paths, name: &ContainerName) -> anyhow::Result<Vec<Entry>> {
    let text = match sys::fs::read_to_string(&history_path(paths, name)) {
        Err(err) if err.is_absent() => return Ok(Vec::new()),
        other => other.with_context(|| format!("reading the exit history of '{name}'"))?,
    };
    let mut entries: Vec<Entry> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let surplus = entries.len().saturating_sub(ENTRIES_MAX);
    entries.drain(..surplus);
    Ok(entries)
}

/// The newest entry; none for a container that never ran.
pub fn last(paths: &Paths, name: &ContainerName) -> anyhow::Result<Option<Entry>> {
    let text = match sys::fs::read_to_string(&history_path(paths, name)) {
        Err(err) if err.is_absent() => return Ok(None),
        other => other.with_context(|| format!("reading the exit history of '{name}'"))?,
    };
    let mut lines = text.lines().rev();
    Ok(lines.find_map(|line| serde_json::from_str(line).ok()))
}

/// The containers that have a history or other state that survives a boot, sorted.
pub fn names(paths: &Paths) -> anyhow::Result<Vec<ContainerName>> {
    let names = sys::fs::list_dir(&paths.state().join("containers"))?;
    let names = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn entry(code: i32) -> Entry {
        Entry {
            invocation_id: None,
            started_at: None,
            finished_at: "2026-01-01T00:00:00Z".to_owned(),
            reason: Reason::Exited,
            code: Some(code),
            signal: None,
            core_dumped: false,
            service_result: Some("success".to_owned()),
            message: None,
            image: None,
            timing: Vec::new(),
        }
    }

    #[test]
    fn history_is_bounded_and_survives_a_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(Path::new(dir.path()));
        let name = "web".parse().unwrap();
        assert!(load(&paths, &name).unwrap().is_empty());
        for code in 0..250 {
            append(&paths, &name, &entry(code)).unwrap();
        }
        let path = history_path(&paths, &name);
        let text = sys::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 2 * ENTRIES_MAX);
        let torn = text + "{\"torn\":";
        sys::fs::write_atomic(&path, torn.as_bytes(), 0o600, sys::fs::Durability::Memory).unwrap();
        let entries = load(&paths, &name).unwrap();
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries.last().unwrap(), &entry(249));
        assert_eq!(entries[0], entry(150));
        assert_eq!(last(&paths, &name).unwrap().unwrap(), entry(249));
        append(&paths, &name, &entry(250)).unwrap();
        assert_eq!(last(&paths, &name).unwrap().unwrap(), entry(250));
        assert_eq!(names(&paths).unwrap(), [name]);
    }
}
