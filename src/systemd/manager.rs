// SPDX-License-Identifier: Apache-2.0
//! The manager: the methods of org.freedesktop.systemd1(5) that wharf's commands use, and waiting
//! for jobs and for units.
//!
//! Jobs are awaited by the manager's `JobRemoved` signal, which is listened for before the job is
//! asked for, so none is missed and nothing polls.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Instant;

use zbus::{ObjectPath, OwnedObjectPath};

use super::Error;
use super::connection::{Connection, MANAGER, MANAGER_PATH, PROPERTIES, Patience};
use super::unit::{ActiveState, ListedUnit, UnitProperties};
use crate::name::UnitName;
use crate::paths::Scope;

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// A systemd manager.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
}

/// What to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// `StartUnit`
    Start,
    /// `StopUnit`
    Stop,
    /// `RestartUnit`
    Restart,
    /// `ReloadUnit`
    Reload,
}

/// How a job ended (`JobRemoved`, org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// `done`
    Done,
    /// `failed`
    Failed,
    /// `canceled`
    Canceled,
    /// `timeout`: of the job itself, not of the service.
    Timeout,
    /// `dependency`
    Dependency,
    /// `skipped`: a condition was not met.
    Skipped,
    /// Another word, such as `assert` or `frozen`.
    Other(String),
}

impl JobResult {
    fn parse(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Queues jobs and waits for them.
#[derive(Debug)]
pub struct Jobs<'a> {
    manager: &'a Manager,
    removed: mpsc::Receiver<(OwnedObjectPath, String)>,
    ended: HashMap<OwnedObjectPath, JobResult>,
}

/// A queued job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job(OwnedObjectPath);

impl Jobs<'_> {
    /// Queues a job as systemctl(1) does: it replaces a conflicting one.
    pub fn queue(&self, kind: JobKind, unit: &UnitName) -> Result<Job, Error> {
        let method = match kind {
            JobKind::Start => "StartUnit",
            JobKind::Stop => "StopUnit",
            JobKind::Restart => "RestartUnit",
            JobKind::Reload => "ReloadUnit",
        };
        let path = self
            .manager
            .connection
            .call(method, &(unit.as_str(), "replace"))?;
        Ok(Job(path))
    }

    /// Waits for a job's end; none when the deadline is over before it.
    pub fn wait(
        &mut self,
        job: &Job,
        deadline: Option<Instant>,
    ) -> Result<Option<JobResult>, Error> {
        loop {
            if let Some(result) = self.ended.remove(&job.0) {
                return Ok(Some(result));
            }
            let received = match deadline {
                None => self
                    .removed
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    self.removed.recv_timeout(left)
                }
            };
            match received {
                Ok((path, result)) => {
                    self.ended.insert(path, JobResult::parse(&result));
                }
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
            }
        }
    }
}

/// Tells when the properties of a unit have changed.
#[derive(Debug)]
pub struct UnitWatch(mpsc::Receiver<()>);

impl UnitWatch {
    /// Waits for the next change.
    pub fn wait(&self) -> Result<(), Error> {
        self.0.recv().map_err(|_| Error::Closed)?;
        // Several changes in a row are one reason to look.
        while self.0.try_recv().is_ok() {}
        Ok(())
    }
}

/// Which processes of a unit a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// The main process.
    Main,
    /// Every process in the unit's cgroup.
    All,
}

impl Manager {
    /// Connects to the manager of `scope`.
    pub fn connect(scope: Scope) -> Result<Self, Error> {
        let connection = Connection::open(scope, Patience::Normal)?;
        Ok(Self { connection })
    }

    /// Listens for the ends of jobs, so that some can be queued.
    pub fn jobs(&self) -> Result<Jobs<'_>, Error> {
        let signal = (MANAGER_PATH, MANAGER, "JobRemoved");
        let removed = self.connection.signals(signal, |message| {
            type Args<'a> = (u32, ObjectPath<'a>, &'a str, &'a str);
            let body = message.body();
            let (_, path, _, result) = body.deserialize::<Args<'_>>().ok()?;
            Some((path.to_owned().into(), result.to_owned()))
        })?;
        Ok(Jobs {
            manager: self,
            removed,
            ended: HashMap::new(),
        })
    }

    /// Sends a signal.
    pub fn kill(&self, unit: &UnitName, whom: Whom, signal: i32) -> Result<(), Error> {
        let whom = match whom {
            Whom::Main => "main",
            Whom::All => "all",
        };
        self.connection
            .call("KillUnit", &(unit.as_str(), whom, signal))
    }

    /// Freezes every process of a unit; returns when they are.
    pub fn freeze(&self, unit: &UnitName) -> Result<(), Error> {
        self.connection.call("FreezeUnit", &(unit.as_str(),))
    }

    /// Thaws a unit.
    pub fn thaw(&self, unit: &UnitName) -> Result<(), Error> {
        self.connection.call("ThawUnit", &(unit.as_str(),))
    }

    /// Forgets that a unit failed.
    pub fn reset_failed(&self, unit: &UnitName) -> Result<(), Error> {
        self.connection.call("ResetFailedUnit", &(unit.as_str(),))
    }

    /// When the manager last ran its generators and loaded its units, in microseconds of the
    /// real-time clock. Files that are newer are not known to it.
    pub fn loaded_at_micros(&self) -> Result<u64, Error> {
        let mut latest = 0;
        // UnitsLoadTimestamp is taken when a reload begins, and is 0 before the first one.
        for name in ["GeneratorsStartTimestamp", "UnitsLoadTimestamp"] {
            let value = self.connection.manager_property(name)?;
            let micros = u64::try_from(value)
                .map_err(|err| Error::Protocol(format!("property {name}: {err}")))?;
            latest = latest.max(micros);
        }
        Ok(latest)
    }

    /// The loaded units whose names match a glob, in one call.
    pub fn list(&self, pattern: &str) -> Result<Vec<ListedUnit>, Error> {
        type Row<'a> = (
            &'a str,
            &'a str,
            &'a str,
            &'a str,
            &'a str,
            &'a str,
            ObjectPath<'a>,
            u32,
            &'a str,
            ObjectPath<'a>,
        );
        let states: [&str; 0] = [];
        let reply = self
            .connection
            .call_raw("ListUnitsByPatterns", &(&states[..], &[pattern][..]))?;
        let body = reply.body();
        let rows: Vec<Row<'_>> = body
            .deserialize()
            .map_err(|err| Error::Protocol(err.to_string()))?;
        let units = rows.into_iter().map(|row| ListedUnit {
            name: row.0.to_owned(),
            load_state: row.2.to_owned(),
            active: ActiveState::parse(row.3),
            sub_state: row.4.to_owned(),
        });
        Ok(units.collect())
    }

    /// Everything systemd says about a service; an absent unit has the load state `not-found`.
    pub fn properties(&self, unit: &UnitName) -> Result<UnitProperties, Error> {
        let path = self.unit_path(unit)?;
        let mut all = self.connection.properties(&path, UNIT)?;
        all.extend(self.connection.properties(&path, SERVICE)?);
        Ok(UnitProperties::new(all))
    }

    /// Watches a unit from now on.
    pub fn watch(&self, unit: &UnitName) -> Result<UnitWatch, Error> {
        let path = self.unit_path(unit)?;
        let changed = self
            .connection
            .signals((&path, PROPERTIES, "PropertiesChanged"), |_| Some(()))?;
        Ok(UnitWatch(changed))
    }

    fn unit_path(&self, unit: &UnitName) -> Result<OwnedObjectPath, Error> {
        self.connection.call("LoadUnit", &(unit.as_str(),))
    }
}

/// Runs the generators again and reloads all units (`systemctl daemon-reload`).
pub fn reload(scope: Scope) -> Result<(), Error> {
    // A connection of its own, because a reload may take far longer than anything else.
    let connection = Connection::open(scope, Patience::Reload)?;
    connection.call("Reload", &())
}
