// SPDX-License-Identifier: Apache-2.0
//! A container's files, seen from outside: for `export`, `commit`, `diff`, `mount` and `cp`.
//!
//! A running container is seen through its mount namespace, one that rests through its image and
//! the writable layer that `persist` keeps, under its lock. Nothing of the container runs, nothing
//! of it decides what is taken for its root (threats F1, F2), and nothing here keeps it from
//! ending: what it leaves then is noticed by [`Tree::check_whole`].

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::definition::{Definition, Root as RootSource, load};
use crate::engine::container::Container;
use crate::engine::refusal::Undefined;
use crate::engine::view::definitions::{self, Found};
use crate::image::Image;
use crate::image::store::Store;
use crate::name::ContainerName;
use crate::records::run::{ImageRecord, Recorded, RunRecord};
use crate::storage::overlay::{self, Writable};
use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::mount::Upper;
use crate::sys::mount::detached::{self, Detached};
use crate::sys::process::Process;

/// What a container's root file system is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// An image, and what the container has written.
    Image {
        /// The image.
        image: Box<Image>,
        /// Where the container writes.
        writable: Writable,
    },
    /// A directory of the host.
    Directory(PathBuf),
}

/// A container with files to look at.
#[derive(Debug)]
pub struct Tree {
    /// What it is made of.
    pub base: Base,
    /// What it runs, while it does.
    pub record: Option<RunRecord>,
    name: ContainerName,
    /// Its init.
    process: Option<Process>,
    /// Any directory of ours.
    scratch: PathBuf,
    /// The upper directory as it was found, which the end of an ephemeral container takes away.
    upper_inode: Option<(u64, u64)>,
    /// Keeps a container that rests from being started meanwhile.
    _lock: Option<sys::fs::Lock>,
}

impl Tree {
    /// Finds the container `name`.
    ///
    /// # Errors
    ///
    /// It does not exist, or it does not run and nothing of it is kept.
    pub fn find(container: Container<'_>) -> anyhow::Result<Self> {
        sys::process::raise_open_files()?;
        if let Some(running) = Self::of_running(container)? {
            return Ok(running);
        }
        if definitions::find(container) == Found::Absent {
            return Err(Undefined::new(container).into());
        }
        let definition = load::load(container.paths(), container.name())?;
        let lock = container.lock()?;
        // It may have been about to start.
        if let Some(running) = Self::of_running(container)? {
            return Ok(running);
        }
        let base = Self::base_at_rest(container, &definition)?;
        Ok(Self::new(container, base).with_lock(lock))
    }

    fn new(container: Container<'_>, base: Base) -> Self {
        let upper_inode = inode_of(&base);
        Self {
            base,
            record: None,
            name: container.name().clone(),
            process: None,
            scratch: container.paths().runtime().to_owned(),
            upper_inode,
            _lock: None,
        }
    }

    fn with_lock(self, lock: sys::fs::Lock) -> Self {
        Self {
            _lock: Some(lock),
            ..self
        }
    }

    fn of_running(container: Container<'_>) -> anyhow::Result<Option<Self>> {
        let (paths, name) = (container.paths(), container.name());
        let Recorded::Known(record) = container.record() else {
            return Ok(None);
        };
        // The descriptor first: the process is then the one whose start time is looked at.
        let Ok(process) = Process::open(record.pid) else {
            return Ok(None);
        };
        // Of this very record: a later one may name another process.
        let ticks = sys::process::start_ticks(record.pid);
        if !ticks.is_ok_and(|ticks| ticks == record.pid_start_ticks) || process.has_ended() {
            return Ok(None);
        }
        let base = match &record.image {
            ImageRecord::Rootfs(path) => Base::Directory(path.clone()),
            ImageRecord::Image { digest, .. } => Base::Image {
                image: Box::new(Store::open(paths)?.resolve(digest)?),
                writable: overlay::of_running(paths, name)
                    .with_context(|| format!("container '{name}' has no writable layer"))?,
            },
        };
        Ok(Some(Self {
            record: Some(*record),
            process: Some(process),
            ..Self::new(container, base)
        }))
    }

    fn base_at_rest(container: Container<'_>, definition: &Definition) -> anyhow::Result<Base> {
        let name = &definition.name;
        let reference = match &definition.root {
            RootSource::Rootfs(path) => return Ok(Base::Directory(path.clone())),
            RootSource::Image(reference) => reference,
        };
        ensure!(
            definition.storage.persist,
            "container '{name}' does not run, and nothing that it wrote is kept: 'persist = true' in \
             its definition would keep it; 'wharf image mount {reference}' shows what it starts with"
        );
        let image = Store::open(container.paths())?.resolve(reference)?;
        let writable = overlay::ensure_kept(container.paths(), name, image.layers.last())?;
        let image = Box::new(image);
        Ok(Base::Image { image, writable })
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it ran when it was found, and does no more.
    pub fn has_ended(&self) -> bool {
        self.process.as_ref().is_some_and(Process::has_ended)
    }

    /// The root directory as the container sees it, its volumes included while it runs. What is
    /// written there is written for the container.
    pub fn root(&self) -> anyhow::Result<OwnedFd> {
        let opening = || format!("opening the root directory of container '{}'", self.name);
        let opened = match (&self.process, &self.base) {
            (Some(process), _) => detached::root_of(process),
            (None, Base::Directory(path)) => open_directory(path),
            (None, Base::Image { image, writable }) => {
                let Writable { diff, work } = writable;
                let upper = Upper::Writable { diff, work };
                detached::overlay(&image.layers, &upper, &self.scratch).map(Detached::into_fd)
            }
        };
        opened.with_context(opening)
    }

    /// The root file system alone, for reading: without volumes and whatever else is mounted in it.
    pub fn file_system(&self) -> anyhow::Result<Detached> {
        let opening = || format!("opening the file system of container '{}'", self.name);
        let opened = match (&self.process, &self.base) {
            (Some(process), _) => detached::root_file_system_of(process),
            (None, Base::Directory(path)) => detached::clone_of(path),
            (None, Base::Image { image, writable }) => {
                let upper = Upper::Layer(&writable.diff);
                detached::overlay(&image.layers, &upper, &self.scratch)
            }
        };
        opened.with_context(opening)
    }

    /// Fails if the container has ended and taken its writable layer with it since it was found, or
    /// if its image has gone, which nothing keeps for one that rests: whatever was read may lack
    /// some of it.
    pub fn check_whole(&self) -> anyhow::Result<()> {
        if inode_of(&self.base) != self.upper_inode {
            bail!(
                "container '{}' ended while its files were read, so some are missing; 'persist = \
                 true' in its definition would keep them",
                self.name
            );
        }
        match &self.base {
            Base::Image { image, .. } => image.require_unchanged(),
            Base::Directory(_) => Ok(()),
        }
    }
}

fn inode_of(base: &Base) -> Option<(u64, u64)> {
    let Base::Image { writable, .. } = base else {
        return None;
    };
    let entry = Dir::open(&writable.diff).and_then(|dir| dir.own_entry());
    entry.ok().map(|entry| entry.inode)
}

fn open_directory(path: &Path) -> sys::Result<OwnedFd> {
    let root = sys::root::Root::open(path)?;
    root.open_dir(Path::new("/"))
}
