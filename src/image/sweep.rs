// SPDX-License-Identifier: Apache-2.0
//! Sweeping: what killed writers left and what nothing refers to.
//!
//! Whoever sweeps holds the store's lock alone, and leaves what living changes rely on. Every writer
//! sweeps, so an entry that cannot be removed, because its file is immutable or the disk broken, is
//! a warning and stays.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::store::STAGING_PREFIX;
use super::store::Store;
use super::users::Writable;
use super::{Digest, flight, lease};
use crate::sys;
use crate::sys::dir::Dir;

impl Writable {
    /// Removes what was being made or removed when its writer died, and what nothing refers to.
    /// The caller holds the lock alone.
    pub(super) fn sweep(&self) -> anyhow::Result<()> {
        let live = lease::live(self.images_dir())?;
        for dir in [self.images_dir(), self.layers_dir()] {
            remove_matching(dir, |name| {
                name.starts_with(STAGING_PREFIX) && !live.contains(name)
            })?;
        }
        remove_matching(&self.references_dir(), |name| name.starts_with(".#"))?;
        remove_matching(self.images_dir(), |name| name.starts_with(".#"))?;
        if let Err(err) = flight::sweep(self) {
            tracing::warn!("{err:#}, ignoring");
        }
        let Ok(used) = self.used() else {
            // A damaged reference or manifest hides what is in use. Nothing is removed then;
            // 'image check' names the damage.
            return Ok(());
        };
        // Only what we could have named: a 'lost+found' stays.
        let is_ours = |name: &str| Digest::parse_hex(name).is_ok();
        remove_matching(&self.blobs_dir(), |name| {
            is_ours(name) && !used.blobs.contains(name)
        })?;
        let layers = Dir::open(self.layers_dir())?;
        for name in layers.names()? {
            let unused = |name: &&str| is_ours(name) && !used.layers.contains(*name);
            let Some(name) = name.to_str().filter(unused) else {
                continue;
            };
            // Out of sight in one step: half of a layer is never under a layer's name.
            let moved = format!("{STAGING_PREFIX}removed-{}", lease::unique());
            match layers.rename(name.as_ref(), &layers, moved.as_ref()) {
                Ok(()) => remove(&layers, self.layers_dir(), moved.as_ref()),
                Err(err) => warn(self.layers_dir(), name.as_ref(), &err),
            }
        }
        Ok(())
    }
}

impl Store {
    /// What references lead to and what living changes rely on.
    ///
    /// # Errors
    ///
    /// A reference or a manifest is damaged, which hides what is in use.
    pub(super) fn used(&self) -> anyhow::Result<Used> {
        let mut used = Used::default();
        for name in lease::live(self.images_dir())? {
            let uses = lease::uses(self.images_dir(), &name)?;
            used.layers.extend(uses.iter().cloned());
            used.blobs.extend(uses);
        }
        for name in self.record_names()? {
            let Some(record) = self.load_record(&name)? else {
                continue;
            };
            let documents = self.documents(&record.digest)?;
            let manifest = &documents.manifest;
            used.blobs.insert(record.digest.hex());
            used.blobs.insert(manifest.config.digest.hex());
            used.blobs
                .extend(manifest.layers.iter().map(|layer| layer.digest.hex()));
            used.layers
                .extend(documents.config.diff_ids.iter().map(Digest::hex));
        }
        Ok(used)
    }
}

/// What must stay, by the 64 digits of its digest.
#[derive(Debug, Default)]
pub(super) struct Used {
    pub(super) blobs: BTreeSet<String>,
    pub(super) layers: BTreeSet<String>,
}

fn remove_matching(path: &Path, matches: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let dir = Dir::open(path)?;
    for name in dir.names()? {
        if name.to_str().is_some_and(&matches) {
            remove(&dir, path, &name);
        }
    }
    Ok(())
}

fn remove(dir: &Dir, path: &Path, name: &OsStr) {
    if let Err(err) = dir.remove_tree(name) {
        warn(path, name, &err);
    }
}

fn warn(dir: &Path, name: &OsStr, err: &sys::Error) {
    let path = dir.join(name);
    tracing::warn!("cannot remove '{}', skipping: {err}", path.display());
}
