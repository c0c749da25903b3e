// SPDX-License-Identifier: Apache-2.0
//! Adding to the store: staging, flush, renames, and last the references.
//!
//! One type for everything that adds (load, pull, import, commit). Whatever ends the process, what
//! it staged is swept by the next writer, and no image is visible that is not whole
//! (threats K1, K4, T23). The store's lock is held for moments only: a lease says that the change is alive
//! and what it relies on, so nothing has to be locked across the network or a decompression.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, anyhow};

use super::damage::sift;
use super::lease::{Lease, unique};
use super::manifest::Descriptor;
use super::store::Documents;
use super::stream::{self, Streamed};
use super::users::Writable;
use super::writer::Writer;
use super::{Digest, Reference};
use crate::storage::extract::Notes;
use crate::storage::layer;
use crate::sys;
use crate::sys::dir::Dir;

/// Something that is being added to the store. Dropped, it leaves nothing behind but what was
/// committed.
///
/// It can be used from several threads at once.
#[derive(Debug)]
pub struct Change<'a> {
    store: &'a Writable,
    lease: Lease<'a>,
    staged: Mutex<Staged>,
}

/// What is in the staging directories, whole and verified.
#[derive(Debug, Default)]
struct Staged {
    /// Layers, below their diff IDs.
    layers: BTreeSet<Digest>,
    /// Blobs, with their file.
    blobs: BTreeMap<Digest, PathBuf>,
    /// Layers that take the place of what is there, although that looks whole.
    replacing: BTreeSet<Digest>,
}

/// What a layer must be, as far as anything says so.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// Digest, size and media type of the blob.
    pub descriptor: Option<Descriptor>,
    /// Digest of the plain archive.
    pub diff_id: Option<Digest>,
}

/// A layer that was added.
#[derive(Debug)]
pub struct AddedLayer {
    /// The descriptor to be put into a manifest: the expected one, or one of what was read.
    pub descriptor: Descriptor,
    /// Digest of the plain archive.
    pub diff_id: Digest,
    /// Bytes of content.
    pub bytes: u64,
    /// What happened, for warnings.
    pub notes: Notes,
}

impl Writable {
    /// Begins a change. What a killed writer left is removed when nobody else is at it.
    pub fn change(&self) -> anyhow::Result<Change<'_>> {
        // Held until the lease is locked: see there.
        let moment = self.write()?;
        let lease = Lease::take(self)
            .with_context(|| format!("staging in '{}'", self.images_dir().display()))?;
        drop(moment);
        Ok(Change {
            store: self,
            lease,
            staged: Mutex::default(),
        })
    }
}

impl Change<'_> {
    /// The store.
    pub fn store(&self) -> &Writable {
        self.store
    }

    /// Makes an empty directory of this change, for what has to be spooled; on the file system of
    /// blobs, removed with the change.
    pub fn make_spool(&self) -> anyhow::Result<PathBuf> {
        let name = format!("spool-{}", unique());
        Dir::open(&self.lease.images)?.make_dir(name.as_ref())?;
        Ok(self.lease.images.join(name))
    }

    /// Whether the blob `digest` of `size` bytes is there; if so, it stays while this change lives.
    pub fn has_blob(&self, digest: &Digest, size: u64) -> anyhow::Result<bool> {
        if self.staged().blobs.contains_key(digest) {
            return Ok(true);
        }
        let _moment = self.store.moment()?;
        self.rely_on_blob(digest, size)
    }

    /// Whether the layer is there, blob and tree; if so, both stay while this change lives.
    pub fn has_layer(&self, descriptor: &Descriptor, diff_id: &Digest) -> anyhow::Result<bool> {
        let (digest, size) = (&descriptor.digest, descriptor.size);
        let (has_tree, has_blob) = {
            let staged = self.staged();
            let has_tree = staged.layers.contains(diff_id);
            (has_tree, staged.blobs.contains_key(digest))
        };
        let _moment = self.store.moment()?;
        Ok((has_tree || self.rely_on_tree(diff_id)?)
            && (has_blob || self.rely_on_blob(digest, size)?))
    }

    /// The documents of an image that is in the store. Everything of it stays while this change
    /// lives, whoever removes its names.
    pub fn use_image(&self, manifest: &Digest) -> anyhow::Result<Documents> {
        let _moment = self.store.moment()?;
        let documents = self.store.documents(manifest)?;
        self.lease.register(manifest)?;
        self.lease.register(&documents.manifest.config.digest)?;
        for layer in &documents.manifest.layers {
            self.lease.register(&layer.digest)?;
        }
        for diff_id in &documents.config.diff_ids {
            self.lease.register(diff_id)?;
        }
        Ok(documents)
    }

    fn rely_on_blob(&self, digest: &Digest, size: u64) -> anyhow::Result<bool> {
        let path = self.store.blob_path(digest);
        let found = std::fs::symlink_metadata(&path)
            .with_context(|| format!("looking at '{}'", path.display()));
        let whole = sift(found)?.is_some_and(|found| found.is_file() && found.len() == size);
        if whole {
            self.lease.register(digest)?;
        }
        Ok(whole)
    }

    fn rely_on_tree(&self, diff_id: &Digest) -> anyhow::Result<bool> {
        let whole = sift(layer::load(self.store.layers_dir(), diff_id))?.is_some();
        if whole {
            self.lease.register(diff_id)?;
        }
        Ok(whole)
    }

    /// Adds a config, a manifest or another small document.
    pub fn add_document(&self, bytes: &[u8]) -> anyhow::Result<Digest> {
        let digest = Digest::of(bytes);
        if self.staged().blobs.contains_key(&digest) {
            return Ok(digest);
        }
        let path = self.new_blob_path();
        new_file(&path)?
            .write_all(bytes)
            .with_context(|| format!("writing '{}'", path.display()))?;
        self.staged().blobs.insert(digest, path);
        Ok(digest)
    }

    /// Reads a layer's blob to its end, once: it is copied, hashed, decompressed, hashed again and
    /// unpacked on the way, the last in a thread of its own. `progress` gets numbers of
    /// bytes of the blob.
    ///
    /// # Errors
    ///
    /// Digest, size, media type or diff ID are not what was expected; nothing of it stays then.
    pub fn add_layer(
        &self,
        blob: impl Read,
        expected: &Expected,
        progress: &dyn Fn(u64),
    ) -> anyhow::Result<AddedLayer> {
        let path = self.new_blob_path();
        let copy = new_file(&path)?;
        let tree = self.lease.layers.join(format!("layer-{}", unique()));
        sys::fs::ensure_dir(&tree, 0o700)?;
        let added = stream::unpack(blob, copy, &tree, expected.diff_id.as_ref(), progress)
            .and_then(|streamed| self.stage_layer(streamed, expected, &path, &tree));
        if added.is_err() {
            // What was refused takes no room while other layers of the change are at work.
            remove_staged(&path);
            remove_staged(&tree);
        }
        added
    }

    fn stage_layer(
        &self,
        streamed: Streamed,
        expected: &Expected,
        path: &Path,
        tree: &Path,
    ) -> anyhow::Result<AddedLayer> {
        let descriptor = streamed.describe(expected.descriptor.as_ref())?;
        let Streamed { record, notes, .. } = streamed;
        let diff_id = record.diff_id;
        let mut staged = self.staged();
        if staged.layers.contains(&diff_id) {
            remove_staged(tree);
        } else {
            let named = self.lease.layers.join(diff_id.hex());
            std::fs::rename(tree, &named)
                .with_context(|| format!("renaming '{}'", tree.display()))?;
            staged.layers.insert(diff_id);
        }
        staged.blobs.insert(descriptor.digest, path.to_owned());
        Ok(AddedLayer {
            descriptor,
            diff_id,
            bytes: record.bytes,
            notes,
        })
    }

    /// Has the layer that is added take the place of the one that is there, which was found to be
    /// damaged although it looks whole.
    pub(super) fn replace_layer(&self, diff_id: &Digest) {
        self.staged().replacing.insert(*diff_id);
    }

    /// Flushes what was added and renames it to where it belongs. No image leads there yet, but
    /// other changes find it, and it stays while this one lives.
    pub fn publish(&self) -> anyhow::Result<()> {
        let mut staged = self.staged();
        if staged.layers.is_empty() && staged.blobs.is_empty() {
            return Ok(());
        }
        self.lease.sync()?;
        let _moment = self.store.moment()?;
        for digest in staged.layers.iter().chain(staged.blobs.keys()) {
            self.lease.register(digest)?;
        }
        let layers = Dir::open(self.store.layers_dir())?;
        while let Some(diff_id) = staged.layers.pop_first() {
            let present = match staged.replacing.remove(&diff_id) {
                true => Present::Damaged,
                false => Present::Trusted,
            };
            let placed = self.place_layer(&layers, &diff_id, present);
            // One that was not needed or not let in.
            remove_staged(&self.lease.layers.join(diff_id.hex()));
            placed.with_context(|| format!("putting layer '{diff_id}' in its place"))?;
        }
        for (digest, path) in &staged.blobs {
            let target = self.store.blob_path(digest);
            std::fs::rename(path, &target)
                .with_context(|| format!("renaming '{}'", target.display()))?;
        }
        layers.sync()?;
        sys::fs::sync_dir(&self.store.blobs_dir())?;
        *staged = Staged::default();
        Ok(())
    }

    /// Publishes, and lets `names` lead to the manifest; without names the image is kept under its
    /// digest. This is the commit: before it there is no image, after it there is a whole one.
    pub fn commit(&self, names: &[Reference], manifest: &Digest) -> anyhow::Result<()> {
        let writer = self.publish_whole(manifest)?;
        for name in names {
            writer.set_reference(name, manifest)?;
        }
        match names {
            [] => writer.keep(manifest),
            _ => Ok(()),
        }
    }

    /// As [`Change::commit`], of an image that `name` leads to on its registry, perhaps by way of
    /// an index.
    pub(super) fn commit_pulled(
        &self,
        name: &Reference,
        manifest: &Digest,
        index: Option<&Digest>,
    ) -> anyhow::Result<()> {
        let writer = self.publish_whole(manifest)?;
        writer.set_pulled(name, manifest, index)
    }

    /// Nobody should be able to commit what is not there, whatever he forgot to add.
    fn publish_whole(&self, manifest: &Digest) -> anyhow::Result<Writer<'_>> {
        self.publish()?;
        // What another change has renamed and not yet flushed is relied on too.
        sys::fs::sync_dir(self.store.layers_dir())?;
        sys::fs::sync_dir(&self.store.blobs_dir())?;
        let writer = self.store.moment()?;
        let documents = self.store.documents(manifest);
        documents
            .and_then(|documents| self.store.require_whole(&documents))
            .with_context(|| format!("committing image '{manifest}'"))?;
        Ok(writer)
    }

    /// Renames a layer to its name. Whoever loses a race for it drops his own. What is there and
    /// damaged is exchanged with it, so that at every instant the name leads to a directory that a
    /// start can mount; nothing that is in use is.
    fn place_layer(&self, layers: &Dir, diff_id: &Digest, present: Present) -> anyhow::Result<()> {
        let (name, staged) = (diff_id.hex(), &self.lease.layers_dir);
        let is_whole = || -> anyhow::Result<bool> {
            Ok(sift(layer::load(self.store.layers_dir(), diff_id))?.is_some())
        };
        if present == Present::Trusted && is_whole()? {
            return Ok(());
        }
        if layers.entry(name.as_ref())?.is_none() {
            return match staged.rename(name.as_ref(), layers, name.as_ref()) {
                Err(_) if is_whole()? => Ok(()),
                other => Ok(other?),
            };
        }
        let _names = self.store.lock_names()?;
        // Somebody else may have replaced it while we waited.
        if present == Present::Trusted && is_whole()? {
            return Ok(());
        }
        self.store.require_unused(diff_id)?;
        staged.exchange(name.as_ref(), layers, name.as_ref())?;
        // Only now does it hold the damaged one, which goes with the staging directory.
        let aside = format!("replaced-{}", unique());
        Ok(staged.rename(name.as_ref(), staged, aside.as_ref())?)
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        // What another thread left half done has no entry here yet.
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_blob_path(&self) -> PathBuf {
        self.lease.images.join(format!("blob-{}", unique()))
    }
}

/// What is made of a layer that is there and looks whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Present {
    /// It is whole: its content is not read.
    Trusted,
    /// Its content was read and is damaged.
    Damaged,
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(anyhow!("'{}' is no file name", path.display()));
    };
    Ok(Dir::open(parent)?.make_file(name)?)
}

fn remove_staged(path: &Path) {
    let dir = path.parent().map(Dir::open).and_then(Result::ok);
    if let Some(Err(err)) = dir
        .zip(path.file_name())
        .map(|(dir, name)| dir.remove_tree(name))
    {
        tracing::warn!("cannot remove '{}', ignoring: {err}", path.display());
    }
}
