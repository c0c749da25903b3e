// SPDX-License-Identifier: Apache-2.0
//! Images: content by digest, references to it, and archives that bring it.
//!
//! Manifests and configs are parsed into types at this edge, and of a config only what an image
//! may influence is kept (threats C1). Unpacking layers is `storage`'s part; nothing here
//! knows containers.

pub mod archive;
pub mod change;
pub mod check;
pub mod config;
pub mod damage;
mod describe;
pub mod event;
mod fetch;
mod find;
mod flight;
pub mod import;
mod lease;
pub mod load;
pub mod manifest;
pub mod mounts;
pub mod platform;
pub mod pull;
pub mod push;
mod record;
pub mod remove;
pub mod repair;
pub mod save;
pub mod size;
pub mod store;
mod stream;
mod sweep;
pub mod used;
pub mod users;
pub mod writer;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

pub use self::config::Config;
pub use crate::digest::Digest;
use crate::paths::Paths;
pub use crate::reference::Reference;

/// An image that is ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The reference it was found by; none if that was its digest or id, and it has no name.
    pub reference: Option<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// What the image says about its process.
    pub config: Config,
    /// Its layers' trees, lowest first: lower directories of an overlay.
    pub layers: Vec<PathBuf>,
    /// What these trees were when the image was looked up.
    stamps: Vec<Stamp>,
}

impl Image {
    /// What people call it: its reference, else its digest.
    pub fn name(&self) -> String {
        match &self.reference {
            Some(reference) => reference.to_string(),
            None => self.digest.to_string(),
        }
    }

    /// Sees that its layers are the very trees that were looked up.
    ///
    /// # Errors
    ///
    /// It was removed or repaired since: what was read of it in between may be incomplete.
    pub fn require_unchanged(&self) -> anyhow::Result<()> {
        // A tree that cannot be looked at is as good as gone.
        let same = |(tree, stamp): (&PathBuf, &Stamp)| {
            let found = Stamp::of(tree);
            found.is_ok_and(|found| found == *stamp)
        };
        let mut trees = self.layers.iter().zip(&self.stamps);
        ensure!(trees.all(same), self.changed());
        Ok(())
    }

    fn changed(&self) -> String {
        let name = self.name();
        format!("image '{name}' was removed or repaired meanwhile; try again")
    }
}

/// Which directory a layer's tree is: another one of the same path has another stamp, also if it
/// got the inode of one that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: (u64, u64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(tree: &Path) -> anyhow::Result<Self> {
        let found = std::fs::symlink_metadata(tree)
            .with_context(|| format!("looking at '{}'", tree.display()))?;
        Ok(Self {
            inode: (found.dev(), found.ino()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Manifests of images that are in use, each with the reasons as people read them.
pub type InUse = BTreeMap<Digest, Vec<String>>;

/// Tells what is in use at this moment.
pub type Users = fn(&Paths) -> anyhow::Result<InUse>;
