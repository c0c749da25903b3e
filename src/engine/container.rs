// SPDX-License-Identifier: Apache-2.0
//! The container: a name, and what belongs to it on this machine.
//!
//! The noun that start, clean-up, views and commands share. It holds nothing that has to be closed
//! and nothing that was read: its record and its lock are asked for, so that whoever holds one knows
//! since when.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::name::{ContainerId, ContainerName};
use crate::paths::Paths;
use crate::records::run::{self, Recorded};
use crate::sys;
use crate::systemd::notify::Notifier;

/// A container of this machine, be it defined, running, or only remembered.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    paths: &'a Paths,
    name: &'a ContainerName,
}

impl<'a> Container<'a> {
    /// The container `name`, whose files are where `paths` say.
    pub fn new(paths: &'a Paths, name: &'a ContainerName) -> Self {
        Self { paths, name }
    }

    /// Where everything is.
    pub fn paths(self) -> &'a Paths {
        self.paths
    }

    /// Its name.
    pub fn name(self) -> &'a ContainerName {
        self.name
    }

    /// Its id on this machine.
    ///
    /// # Errors
    ///
    /// The machine has no id.
    pub fn id(self) -> anyhow::Result<ContainerId> {
        let machine_id = sys::fs::read_to_string(std::path::Path::new("/etc/machine-id"))
            .context("reading the machine's id, which 'systemd-machine-id-setup' makes")?;
        Ok(ContainerId::derive(&machine_id, self.name))
    }

    /// Its run-time directory, which is its bundle.
    pub fn bundle(self) -> PathBuf {
        self.paths.container_runtime(self.name)
    }

    /// The record of its run, read now.
    pub fn record(self) -> Recorded {
        run::read(self.paths, self.name)
    }

    /// Whether the process of its record still is that process.
    pub fn is_running(self) -> bool {
        let recorded = self.record();
        recorded.known().is_some_and(|record| record.is_running())
    }

    /// Its lock, if nobody has it.
    pub fn try_lock(self) -> anyhow::Result<Option<sys::fs::Lock>> {
        sys::fs::try_lock(&self.paths.container_lock(self.name)).with_context(|| self.locking())
    }

    /// Its lock, once it is free. The holder is another start or clean-up of the same container;
    /// whoever waits says for whom.
    ///
    /// # Errors
    ///
    /// A container in a person's shell is not waited for: its lock is held until it ends.
    pub fn lock(self) -> anyhow::Result<sys::fs::Lock> {
        let name = self.name;
        if let Some(lock) = self.try_lock()? {
            return Ok(lock);
        }
        let of_shell = |record: &run::RunRecord| record.invocation_id.is_none();
        let recorded = self.record();
        if recorded
            .known()
            .is_some_and(|r| of_shell(r) && r.is_running())
        {
            bail!("container '{name}' is running in somebody's shell: end it there");
        }
        let waiting = |holder: &str| {
            let message = format!("waiting for the lock of container '{name}', held by {holder}");
            tracing::warn!("{message}");
            if let Ok(Some(notifier)) = Notifier::from_env() {
                notifier.status(&message).ok();
            }
        };
        let path = self.paths.container_lock(name);
        sys::fs::lock(&path, waiting).with_context(|| self.locking())
    }

    fn locking(self) -> String {
        format!("locking container '{}'", self.name)
    }
}
