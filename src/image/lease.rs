// SPDX-License-Identifier: Apache-2.0
//! Leases: what says that a change to the store is alive, and what it relies on.
//!
//! A change has a staging directory on the file system of blobs and one on that of layers. In the
//! first is the file `lease`, which it holds locked (flock(2), so the lock ends with the process
//! however that ends), and `uses/HEX` for every blob and layer that it relies on although no
//! reference may lead there. Who sweeps holds the store's lock alone and tries these locks.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Digest;
use super::store::{STAGING_PREFIX, Store};
use super::users::Writable;
use crate::storage::layer;
use crate::sys;
use crate::sys::dir::Dir;

const LEASE: &str = "lease";
const USES: &str = "uses";

/// A living change's staging directories; removed on drop.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    store: &'a Writable,
    /// Where blobs are made.
    pub(super) images: PathBuf,
    /// Where layers are made.
    pub(super) layers: PathBuf,
    /// That directory. It is opened before anything is written, as syncfs(2) tells of the errors
    /// that came after.
    pub(super) layers_dir: Dir,
    uses: Dir,
    /// Held for its drop.
    _lock: File,
}

/// A name that no other process and no other thread of this one uses.
pub(super) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{}-{serial}", std::process::id())
}

impl<'a> Lease<'a> {
    /// Makes the directories. The caller holds the store's lock, so that nobody sweeps what has
    /// no locked lease yet.
    pub(super) fn take(store: &'a Writable) -> anyhow::Result<Self> {
        let images_dir = Dir::open(store.images_dir())?;
        let name = loop {
            let name = format!("{STAGING_PREFIX}{}", unique());
            match images_dir.make_dir(name.as_ref()) {
                Ok(()) => break name,
                // Of a process with this number in another PID namespace, or one that was killed.
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err.into()),
            }
        };
        let images = store.images_dir().join(&name);
        let layers = store.layers_dir().join(&name);
        let staging = Dir::open(&images)?;
        let lock = staging.make_file(LEASE.as_ref())?;
        lock.lock().context("locking a lease")?;
        staging.make_dir(USES.as_ref())?;
        // A directory that is left from another life of this name holds nothing of use.
        let all_layers = Dir::open(store.layers_dir())?;
        all_layers.remove_tree(name.as_ref())?;
        all_layers.make_dir(name.as_ref())?;
        Ok(Self {
            store,
            uses: staging.open_dir(USES.as_ref())?,
            images,
            layers,
            layers_dir: all_layers.open_dir(name.as_ref())?,
            _lock: lock,
        })
    }

    /// Flushes what was made, and whatever else the file systems hold.
    pub(super) fn sync(&self) -> anyhow::Result<()> {
        self.layers_dir.sync_file_system()?;
        Ok(self.uses.sync_file_system()?)
    }

    /// Notes that the change relies on a blob or a layer. The caller holds the store's lock, from
    /// before it looked whether it is there.
    pub(super) fn register(&self, digest: &Digest) -> anyhow::Result<()> {
        match self.uses.make_file(digest.hex().as_ref()) {
            Ok(_) => Ok(()),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(err) => Err(err.into()),
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Against a sweep that would find the directories half removed.
        let moment = self.store.moment();
        for path in [&self.layers, &self.images] {
            let removed = path
                .parent()
                .map(Dir::open)
                .and_then(Result::ok)
                .zip(path.file_name())
                .map(|(dir, name)| dir.remove_tree(name));
            if let Some(Err(err)) = removed {
                tracing::warn!("cannot remove '{}', ignoring: {err}", path.display());
            }
        }
        drop(moment);
    }
}

/// The names of the staging directories whose changes are alive, or may be: a lease that cannot be
/// tried tells nothing.
pub(super) fn live(images: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut live = BTreeSet::new();
    for name in sys::fs::list_dir(images)? {
        let Some(name) = name
            .to_str()
            .filter(|name| name.starts_with(STAGING_PREFIX))
        else {
            continue;
        };
        let path = images.join(name).join(LEASE);
        let lease = match File::open(&path) {
            Ok(lease) => lease,
            Err(err) if is_absent(&err) => continue,
            Err(err) => {
                tracing::warn!("cannot open '{}', ignoring: {err}", path.display());
                live.insert(name.to_owned());
                continue;
            }
        };
        match lease.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                live.insert(name.to_owned());
            }
            Err(TryLockError::Error(err)) => {
                tracing::warn!("cannot lock '{}', ignoring: {err}", path.display());
                live.insert(name.to_owned());
            }
        }
    }
    Ok(live)
}

/// Absent, or below something that is no directory: not made by us.
fn is_absent(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The blobs and layers that the change of this staging directory relies on.
pub(super) fn uses(images: &Path, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let names = sys::fs::list_dir(&images.join(name).join(USES))?;
    Ok(names
        .into_iter()
        .filter_map(|name| name.into_string().ok())
        .collect())
}

/// The bytes of blobs and of layers' facts that all changes have staged, to see that somebody gets
/// on; 0 for what cannot be read.
pub(super) fn staged_bytes(store: &Store) -> u64 {
    let staging = sys::fs::list_dir(store.images_dir()).unwrap_or_default();
    let staging = staging.iter().filter_map(|name| name.to_str());
    let mut bytes = 0_u64;
    for name in staging.filter(|name| name.starts_with(STAGING_PREFIX)) {
        let dir = store.images_dir().join(name);
        for blob in sys::fs::list_dir(&dir).unwrap_or_default() {
            let found = std::fs::symlink_metadata(dir.join(blob));
            bytes = bytes.wrapping_add(found.map_or(0, |found| found.len()));
        }
        let dir = store.layers_dir().join(name);
        for name in sys::fs::list_dir(&dir).unwrap_or_default() {
            bytes = bytes.wrapping_add(layer::facts_bytes(&dir.join(name)));
        }
    }
    bytes
}
