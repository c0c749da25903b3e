// SPDX-License-Identifier: Apache-2.0
//! Control groups of version 2, by path below the one cgroup2 mount (cgroups(7)).
//!
//! A group is named by its path as /proc/PID/cgroup shows it. Every operation treats an absent
//! group as done.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Error, Result};

mod namespace;

/// One control group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    mount: PathBuf,
    path: String,
}

impl Cgroup {
    /// The group this process is in.
    ///
    /// # Errors
    ///
    /// `Unsupported` when no cgroup2 file system is mounted.
    pub fn own() -> Result<Self> {
        let mount = find_mount()?;
        let text = super::fs::read_to_string(Path::new("/proc/self/cgroup"))?;
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .ok_or_else(|| unsupported("no '0::' line in /proc/self/cgroup"))?;
        Ok(Self {
            mount,
            path: path.to_owned(),
        })
    }

    /// The group with this path, such as `/ctr.slice/ctr@web.service`.
    ///
    /// # Errors
    ///
    /// `Unsupported` when no cgroup2 file system is mounted.
    pub fn at(path: &str) -> Result<Self> {
        Ok(Self {
            mount: find_mount()?,
            path: path.to_owned(),
        })
    }

    /// The group `name` below this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self {
            mount: self.mount.clone(),
            path: format!("{}/{name}", self.path.trim_end_matches('/')),
        }
    }

    /// The group above, unless this is the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.path.trim_end_matches('/').rsplit_once('/')?;
        Some(Self {
            mount: self.mount.clone(),
            path: if parent.is_empty() { "/" } else { parent }.to_owned(),
        })
    }

    /// The path as /proc/PID/cgroup shows it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn dir(&self) -> PathBuf {
        self.mount.join(self.path.trim_start_matches('/'))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.dir().join(file);
        let call = || format!("write({:?}, {text:?})", path.display().to_string());
        let mut opened = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|err| Error::new(call(), err))?;
        io::Write::write_all(&mut opened, text.as_bytes()).map_err(|err| Error::new(call(), err))
    }

    /// Makes the group.
    pub fn ensure(&self) -> Result<()> {
        super::fs::ensure_dir(&self.dir(), 0o755)
    }

    /// Moves this process into the group.
    pub fn enter(&self) -> Result<()> {
        self.write("cgroup.procs", "0")
    }

    /// Makes the group the root of this process's cgroup namespace, wherever this process is.
    ///
    /// Only for a process without threads.
    pub fn enter_namespace(&self) -> Result<()> {
        namespace::enter(&self.dir())
    }

    /// Whether the group is there.
    pub fn exists(&self) -> bool {
        self.dir().is_dir()
    }

    /// The PIDs in the group itself.
    pub fn pids(&self) -> Result<Vec<i32>> {
        match super::fs::read_to_string(&self.dir().join("cgroup.procs")) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(err) if is_gone(&err) => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// The number behind `key` in a flat-keyed file such as `memory.events`; none when the
    /// controller is not enabled for the group.
    pub fn number(&self, file: &str, key: &str) -> Option<u64> {
        let text = super::fs::read_to_string(&self.dir().join(file)).ok()?;
        text.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            if name == key {
                value.parse().ok()
            } else {
                None
            }
        })
    }

    /// Kills every process in the group and below, and waits until the last is gone.
    ///
    /// # Errors
    ///
    /// `TimedOut` when a process survives (uninterruptible sleep) until the deadline.
    pub fn kill(&self, deadline: Duration) -> Result<()> {
        match self.write("cgroup.kill", "1") {
            Err(err) if !is_gone(&err) => return Err(err),
            _ => {}
        }
        self.wait_empty(deadline)
    }

    /// Waits for `populated 0` in cgroup.events.
    pub fn wait_empty(&self, deadline: Duration) -> Result<()> {
        let what = ("kill", "processes are left");
        self.wait_event("populated", |value| value != Some(1), (what, deadline))
    }

    /// Stops every process in the group and below where it is, until [`Cgroup::thaw`].
    ///
    /// # Errors
    ///
    /// `TimedOut` when a process does not stop (uninterruptible sleep) until the deadline.
    pub fn freeze(&self, deadline: Duration) -> Result<()> {
        self.write("cgroup.freeze", "1")?;
        let what = ("freeze", "processes do not stop");
        self.wait_event("frozen", |value| value != Some(0), (what, deadline))
    }

    /// Lets the processes go on, unless a group above is frozen too; an absent group is success.
    pub fn thaw(&self) -> Result<()> {
        match self.write("cgroup.freeze", "0") {
            Err(err) if !is_gone(&err) => Err(err),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for a value in cgroup.events, whose changes the kernel announces by POLLPRI.
    fn wait_event(
        &self,
        key: &str,
        is_reached: impl Fn(Option<u64>) -> bool,
        ((call, late), deadline): ((&str, &str), Duration),
    ) -> Result<()> {
        let path = self.dir().join("cgroup.events");
        let end = Instant::now() + deadline;
        loop {
            let file = match fs::File::open(&path) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other.map_err(|err| Error::new(format!("open({path:?})"), err))?,
            };
            if is_reached(self.number("cgroup.events", key)) {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let err = io::Error::new(io::ErrorKind::TimedOut, late);
                return Err(Error::new(format!("{call}(cgroup {:?})", self.path), err));
            }
            // The event can fall between the read above and poll, so no wait is longer than this.
            let step = left.min(Duration::from_millis(100));
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: step.subsec_nanos().into(),
            };
            let mut fds = [PollFd::new(&file, PollFlags::PRI)];
            match poll(&mut fds, Some(&timeout)) {
                Err(err) if err != rustix::io::Errno::INTR => {
                    return Err(Error::new("poll(cgroup.events)", err));
                }
                _ => {}
            }
        }
    }

    /// Removes the group and those below; its processes must have ended.
    pub fn remove(&self) -> Result<()> {
        let dir = self.dir();
        let entries = match fs::read_dir(&dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|err| Error::new(format!("opendir({dir:?})"), err))?,
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.child(&entry.file_name().to_string_lossy()).remove()?;
            }
        }
        match fs::remove_dir(&dir) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(format!("rmdir({dir:?})"), err))
            }
            _ => Ok(()),
        }
    }
}

/// A control file of a removed group is ENOENT when opened and ENODEV when it was open already.
fn is_gone(err: &Error) -> bool {
    err.is_absent() || err.cause.raw_os_error() == Some(libc::ENODEV)
}

fn unsupported(fact: &str) -> Error {
    Error::new("cgroup", io::Error::new(io::ErrorKind::Unsupported, fact))
}

/// Where cgroup2 is mounted: /sys/fs/cgroup, or a directory below it on a hybrid machine.
fn find_mount() -> Result<PathBuf> {
    let text = super::fs::read_to_string(Path::new("/proc/self/mountinfo"))?;
    let mounts = text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let kind = right.split(' ').next()?;
        let target = left.split(' ').nth(4)?;
        (kind == "cgroup2").then_some(target)
    });
    let candidates: Vec<&str> = mounts.collect();
    candidates
        .iter()
        .find(|target| target.starts_with("/sys/fs/cgroup"))
        .map(PathBuf::from)
        .ok_or_else(|| unsupported("no cgroup2 file system is mounted at /sys/fs/cgroup"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_groups() {
        let unit = Cgroup {
            mount: PathBuf::from("/sys/fs/cgroup"),
            path: "/ctr.slice/ctr@web.service".to_owned(),
        };
        let child = unit.child("payload");
        assert_eq!(child.path(), "/ctr.slice/ctr@web.service/payload");
        assert_eq!(child.name(), "payload");
        assert_eq!(child.parent(), Some(unit.clone()));
        let root = Cgroup {
            path: "/".to_owned(),
            ..unit
        };
        assert_eq!(root.child("a").path(), "/a");
        assert_eq!(root.child("a").parent().unwrap().path(), "/");
        assert_eq!(root.parent(), None);
    }

    #[test]
    fn absent_groups_are_done() {
        // Machines without cgroup2 have nothing to test here, and wharf says so at start.
        let gone = Cgroup {
            mount: PathBuf::from("/sys/fs/cgroup"),
            path: "/wharf-no-such-group".to_owned(),
        };
        assert!(!gone.exists());
        assert!(gone.pids().unwrap().is_empty());
        gone.kill(Duration::from_secs(1)).unwrap();
        gone.remove().unwrap();
        assert_eq!(gone.number("memory.events", "oom_kill"), None);
    }
}
