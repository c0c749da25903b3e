// SPDX-License-Identifier: Apache-2.0
//! Jobs for several containers at once: all are queued before the first is waited for, so that
//! systemd does as many of them at a time as their dependencies allow.

use std::time::Duration;

use anyhow::Context as _;

use crate::engine::container::Container;
use crate::engine::control::lifecycle::{self, Done, Freshness, Managed};
use crate::engine::view::status;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::systemd::manager::{self, Job, Jobs, Manager};

/// What is to become of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// They run.
    Start,
    /// They end.
    Stop,
    /// They end if they run, and run.
    Restart,
    /// They read their own configuration again.
    Reload,
}

/// A task for some containers.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// What to do.
    pub task: Task,
    /// With which.
    pub names: &'a [ContainerName],
    /// How long one that ends may take, at most, until it is killed.
    pub limit: Option<Duration>,
}

/// systemd, asked about containers.
#[derive(Debug)]
pub struct Control<'a> {
    paths: &'a Paths,
    manager: Manager,
}

impl<'a> Control<'a> {
    /// Connects to the manager.
    pub fn connect(paths: &'a Paths) -> anyhow::Result<Self> {
        let manager = status::connect(paths)?;
        Ok(Self { paths, manager })
    }

    /// One of its containers.
    pub fn managed<'b>(&'b self, name: &'b ContainerName) -> Managed<'b> {
        Managed {
            container: Container::new(self.paths, name),
            manager: &self.manager,
        }
    }

    /// Has systemd read the definitions again if they have changed.
    pub fn refresh(&self, names: &[ContainerName]) -> anyhow::Result<Freshness> {
        lifecycle::refresh(self.paths, &self.manager, names)
            .context("making systemd read changed definitions")
    }

    /// Carries out an order. `told` gets what became of each container, those first that it could
    /// not even be asked of.
    pub fn carry_out(
        &self,
        order: Order<'_>,
        told: &mut dyn FnMut(&ContainerName, anyhow::Result<Done>),
    ) -> anyhow::Result<()> {
        let mut jobs = self.manager.jobs()?;
        let mut queued = Vec::new();
        for name in order.names {
            match queue(&self.managed(name), &jobs, order.task) {
                Ok(job) => queued.extend(job.map(|job| (name, job))),
                Err(err) => told(name, Err(err)),
            }
        }
        for (name, job) in &queued {
            let done = self.managed(name).finish(&mut jobs, job, order.limit);
            told(name, done);
        }
        Ok(())
    }
}

/// None when there is nothing to do.
fn queue(managed: &Managed<'_>, jobs: &Jobs<'_>, task: Task) -> anyhow::Result<Option<Job>> {
    match task {
        Task::Start => managed.queue_start(jobs),
        Task::Stop => managed.queue_stop(jobs),
        Task::Restart => managed.queue_restart(jobs).map(Some),
        Task::Reload => managed.queue_reload(jobs).map(Some),
    }
}

/// Makes systemd read all definitions again.
pub fn reload(paths: &Paths) -> anyhow::Result<()> {
    manager::reload(paths.scope()).context("reloading systemd")
}
