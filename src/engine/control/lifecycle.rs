// SPDX-License-Identifier: Apache-2.0
//! What the commands do to containers: systemd's jobs, with a container engine's refusals.
//!
//! systemd alone starts and stops; a container may do through `wharf` exactly what its unit may do
//! through systemctl(1). What is added is the word on why not, and what to do instead.

use std::time::{Duration, Instant};

use crate::engine::container::Container;
use crate::engine::refusal::Refusal;
use crate::engine::view::definitions;
use crate::engine::view::facts;
use crate::engine::view::status::{Observed, State};
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::sys::cgroup::Cgroup;
use crate::systemd::manager::{Job, JobKind, JobResult, Jobs, Manager, Whom};
use crate::systemd::unit::{ActiveState, UnitProperties};
use crate::systemd::{self, Error as SystemdError};

/// The same on every architecture (signal(7)).
const SIGKILL: i32 = 9;

/// What became of a container whose job is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// What was asked for.
    Now,
    /// The stop signal was ignored for the given time, and the container was killed.
    Killed,
}

/// Whether systemd knew the definitions as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It did.
    Fresh,
    /// They had changed; it was reloaded.
    Reloaded,
}

/// A container in the hands of the manager that runs it.
#[derive(Debug, Clone, Copy)]
pub struct Managed<'a> {
    /// The container.
    pub container: Container<'a>,
    /// systemd.
    pub manager: &'a Manager,
}

/// Makes systemd reload its units if a definition of `names` is newer than what it has read.
pub fn refresh(
    paths: &Paths,
    manager: &Manager,
    names: &[ContainerName],
) -> anyhow::Result<Freshness> {
    let loaded_at = manager.loaded_at_micros()?;
    for name in names {
        let newer = definitions::changed_at_micros(Container::new(paths, name))? > loaded_at;
        if newer || manager.properties(&name.unit())?.is_set("NeedDaemonReload") {
            systemd::manager::reload(paths.scope())?;
            return Ok(Freshness::Reloaded);
        }
    }
    Ok(Freshness::Fresh)
}

impl Managed<'_> {
    /// What the container is doing.
    ///
    /// # Errors
    ///
    /// [`Undefined`](crate::engine::refusal::Undefined) when nobody knows it.
    pub fn observe(&self) -> anyhow::Result<Observed> {
        facts::look(self.container, self.manager)
    }

    /// Queues a start; none when it runs already.
    pub fn queue_start(&self, jobs: &Jobs<'_>) -> anyhow::Result<Option<Job>> {
        let seen = self.observe()?;
        match seen.state {
            State::Running if seen.unit.active() != ActiveState::Deactivating => Ok(None),
            State::Paused => Err(self.paused().into()),
            State::Configured
            | State::Created
            | State::Stopped
            | State::Exited
            | State::Running
            | State::Unknown => self.queue(jobs, JobKind::Start).map(Some),
        }
    }

    /// Queues a stop; none when nothing runs.
    pub fn queue_stop(&self, jobs: &Jobs<'_>) -> anyhow::Result<Option<Job>> {
        let seen = self.observe()?;
        match seen.state {
            State::Paused => Err(self.paused().into()),
            State::Configured if seen.unit.active() != ActiveState::Activating => Err(self
                .refuse("was never started, there is nothing to stop")
                .into()),
            State::Exited if seen.unit.active() != ActiveState::Activating => Ok(None),
            State::Configured
            | State::Created
            | State::Stopped
            | State::Exited
            | State::Running
            | State::Unknown => self.queue(jobs, JobKind::Stop).map(Some),
        }
    }

    /// Queues a restart, which is a start when nothing runs.
    pub fn queue_restart(&self, jobs: &Jobs<'_>) -> anyhow::Result<Job> {
        let seen = self.observe()?;
        if seen.state == State::Paused {
            return Err(self.paused().into());
        }
        self.queue(jobs, JobKind::Restart)
    }

    /// Queues a reload.
    pub fn queue_reload(&self, jobs: &Jobs<'_>) -> anyhow::Result<Job> {
        self.require_running("reload")?;
        self.queue(jobs, JobKind::Reload)
    }

    /// Waits for a job. What is left after `limit` is killed, if there is a limit and the job
    /// stops something.
    pub fn finish(
        &self,
        jobs: &mut Jobs<'_>,
        job: &Job,
        limit: Option<Duration>,
    ) -> anyhow::Result<Done> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut done = Done::Now;
        let result = match jobs.wait(job, deadline)? {
            Some(result) => result,
            None => {
                // A restart may be past its stop by now, and the new run is not to be killed.
                let unit = self.manager.properties(&self.container.name().unit())?;
                // Nor is the clean-up, which comes after the container has ended.
                if matches!(unit.text("SubState"), "stop" | "stop-sigterm") {
                    self.kill_all()?;
                    done = Done::Killed;
                }
                jobs.wait(job, None)?.unwrap_or(JobResult::Done)
            }
        };
        self.judge(&result)?;
        Ok(done)
    }

    /// Sends a signal to the container's main process.
    pub fn kill(&self, signal: i32) -> anyhow::Result<()> {
        self.require_running("kill")?;
        Ok(self
            .manager
            .kill(&self.container.name().unit(), Whom::Main, signal)?)
    }

    /// Freezes every process of the container.
    pub fn pause(&self) -> anyhow::Result<()> {
        let seen = self.observe()?;
        match seen.state {
            State::Paused => Err(self.refuse("is paused already").into()),
            State::Running => Ok(self.manager.freeze(&self.container.name().unit())?),
            state @ (State::Unknown
            | State::Configured
            | State::Created
            | State::Stopped
            | State::Exited) => Err(self.not_running(state).into()),
        }
    }

    /// Lets the processes of a paused container go on.
    pub fn unpause(&self) -> anyhow::Result<()> {
        let seen = self.observe()?;
        match seen.state {
            State::Paused => {
                self.manager.thaw(&self.container.name().unit())?;
                // Frozen by a 'wharf commit' that was killed.
                if let Some(record) = &seen.record {
                    Cgroup::at(&record.payload_cgroup)?.thaw()?;
                }
                Ok(())
            }
            state @ (State::Unknown
            | State::Configured
            | State::Created
            | State::Running
            | State::Stopped
            | State::Exited) => Err(self.refuse(format!("is not paused but {state}")).into()),
        }
    }

    fn queue(&self, jobs: &Jobs<'_>, kind: JobKind) -> anyhow::Result<Job> {
        match jobs.queue(kind, &self.container.name().unit()) {
            Ok(job) => Ok(job),
            Err(SystemdError::Masked { .. }) => Err(self
                .refuse(format!(
                    "has a masked unit; 'systemctl unmask {}' allows it to start",
                    self.container.name().unit()
                ))
                .into()),
            Err(SystemdError::NotApplicable { .. }) if kind == JobKind::Reload => Err(self
                .refuse("cannot be reloaded: set 'reload' in its definition")
                .into()),
            Err(err) => Err(err.into()),
        }
    }

    fn kill_all(&self) -> Result<(), SystemdError> {
        match self
            .manager
            .kill(&self.container.name().unit(), Whom::All, SIGKILL)
        {
            // It ended in this very moment.
            Err(SystemdError::NoSuchUnit { .. }) => Ok(()),
            Err(SystemdError::Refused { name, .. })
                if name == "org.freedesktop.systemd1.NoSuchProcess" =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn require_running(&self, verb: &str) -> anyhow::Result<Observed> {
        let seen = self.observe()?;
        match seen.state {
            State::Running => Ok(seen),
            State::Paused => Err(self
                .refuse(format!(
                    "is paused; 'wharf unpause {}' before you {verb} it",
                    self.container.name()
                ))
                .into()),
            state @ (State::Unknown
            | State::Configured
            | State::Created
            | State::Stopped
            | State::Exited) => Err(self.not_running(state).into()),
        }
    }

    /// Turns the result of a job into what systemctl(1) would say.
    fn judge(&self, result: &JobResult) -> anyhow::Result<()> {
        let fact = match result {
            JobResult::Done | JobResult::Skipped => return Ok(()),
            JobResult::Failed => {
                let unit = self.manager.properties(&self.container.name().unit())?;
                return Err(self.failed(failure(&unit), unit.invocation_id()).into());
            }
            JobResult::Canceled => "was not acted on: another job replaced this one".to_owned(),
            JobResult::Timeout => "was not acted on: the job timed out".to_owned(),
            JobResult::Dependency => format!(
                "did not start: something it depends on failed; 'systemctl list-dependencies {}' \
                 shows what",
                self.container.name().unit()
            ),
            JobResult::Other(word) => format!("was not acted on: the job ended with '{word}'"),
        };
        Err(self.failed(fact, None).into())
    }

    fn failed(&self, fact: String, invocation_id: Option<String>) -> Refusal {
        Refusal::Failed {
            name: self.container.name().clone(),
            fact,
            invocation_id,
        }
    }

    fn refuse(&self, fact: impl Into<String>) -> Refusal {
        Refusal::State {
            name: self.container.name().clone(),
            fact: fact.into(),
        }
    }

    fn paused(&self) -> Refusal {
        self.refuse(format!(
            "is paused; 'wharf unpause {}' first",
            self.container.name()
        ))
    }

    fn not_running(&self, state: State) -> Refusal {
        self.refuse(format!(
            "is not running but {state}; 'wharf start {}' starts it",
            self.container.name()
        ))
    }
}

/// Why a unit failed: systemd's result in words, and the unit's own status text.
fn failure(unit: &UnitProperties) -> String {
    let status = unit.number("ExecMainStatus").unwrap_or(0);
    // wharf's own statuses: the status text is wharf's own reason, and all there is to say.
    if matches!(status, 125..=127) && !unit.text("StatusText").is_empty() {
        return format!("did not start: {}", unit.text("StatusText"));
    }
    let why = match unit.text("Result") {
        "success" => "did not start".to_owned(),
        "exit-code" => format!("did not start: its main process exited with status {status}"),
        "signal" => format!("did not start: its main process was killed by signal {status}"),
        "core-dump" => format!("did not start: its main process dumped core (signal {status})"),
        "timeout" => "did not start or stop in time".to_owned(),
        "watchdog" => "did not start: it did not answer the watchdog".to_owned(),
        "start-limit-hit" => {
            "was started too often; 'systemctl reset-failed' lets it start again".to_owned()
        }
        "oom-kill" => "did not start: it ran out of memory".to_owned(),
        "protocol" => "did not start: it ended before it said that it was ready".to_owned(),
        "resources" => "did not start: systemd lacked a resource for it".to_owned(),
        other => format!("did not start ({other})"),
    };
    match unit.text("StatusText") {
        "" => why,
        text => format!("{why}: {text}"),
    }
}
