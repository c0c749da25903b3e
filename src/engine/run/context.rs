// SPDX-License-Identifier: Apache-2.0
//! The context of a start: what its steps make and the later ones need.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use crate::definition::{Definition, Root as RootSource};
use crate::engine::container::Container;
use crate::engine::spec::CgroupNamespace;
use crate::image::Image;
use crate::name::ContainerId;
use crate::records::run::{ImageRecord, Phase};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::storage::overlay::Rootfs;
use crate::sys::cgroup::Cgroup;

/// Time stamps of the phases.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    last: Instant,
    phases: Vec<Phase>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Ends the phase `name`.
    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.phases.push(Phase {
            name: name.to_owned(),
            micros: u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX),
        });
        self.last = now;
    }

    pub(crate) fn into_phases(self) -> Vec<Phase> {
        self.phases
    }
}

/// A start under way.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) container: Container<'a>,
    pub(crate) definition: Definition,
    pub(crate) settings: Settings,
    pub(crate) id: ContainerId,
    pub(crate) runtime: Runtime,
    /// The payload's cgroup, below the unit's or below the one of a person's shell.
    pub(crate) payload: Cgroup,
    pub(crate) cgroup_namespace: CgroupNamespace,
    /// systemd's id of this run; none in a person's shell.
    pub(crate) invocation_id: Option<String>,
    /// None for a directory of the host.
    pub(crate) source: Option<Image>,
    pub(crate) stopwatch: Stopwatch,
}

impl Start<'_> {
    /// The image that the definition names.
    pub(crate) fn image(&self) -> anyhow::Result<&Image> {
        self.source.as_ref().context("the image was not looked up")
    }

    /// The root file system, as the run-time record has it.
    pub(crate) fn image_record(&self) -> anyhow::Result<ImageRecord> {
        Ok(match &self.definition.root {
            RootSource::Rootfs(path) => ImageRecord::Rootfs(path.clone()),
            RootSource::Image(reference) => ImageRecord::Image {
                reference: reference.clone(),
                digest: self.image()?.digest.to_string(),
            },
        })
    }
}

/// What the later steps need of the bundle.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// The container's run-time directory.
    pub(crate) dir: PathBuf,
    /// The command line, without the init.
    pub(crate) args: Vec<String>,
    /// The environment as `KEY=VALUE`.
    pub(crate) env: Vec<String>,
    /// The signal that systemd stops the container with.
    pub(crate) stop_signal: String,
    /// `SYSLOG_IDENTIFIER=` of its lines.
    pub(crate) identifier: String,
    /// Priority of standard error's lines.
    pub(crate) stderr_priority: u8,
    /// The socket on which the container notifies.
    pub(crate) notify: Option<OwnedFd>,
}

/// A start whose bundle is made: what is left is to create the container.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub(crate) start: Start<'a>,
    pub(crate) bundle: Bundle,
    pub(crate) rootfs: Rootfs,
}
