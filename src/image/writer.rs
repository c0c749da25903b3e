// SPDX-License-Identifier: Apache-2.0
//! The store, open for writing: its locks, and the files of references.
//!
//! The store's lock is held shared for moments and alone for a sweep. Names are changed by one at a
//! time, who holds the lock of `references/`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use super::damage::sift;
use super::record::file_name;
use super::store::{Record, Store, VERSION};
use super::users::Writable;
use super::{Digest, Reference};
use crate::sys;
use crate::sys::fs::Durability;

impl Writable {
    /// Opens the store for a moment of writing, such as to change names; what a killed writer left
    /// is removed when nobody else is at it.
    pub fn write(&self) -> anyhow::Result<Writer<'_>> {
        let opened = || -> anyhow::Result<Writer<'_>> {
            for dir in [
                self.images_dir().to_owned(),
                self.layers_dir().to_owned(),
                self.references_dir(),
                self.blobs_dir(),
            ] {
                sys::fs::ensure_dir(&dir, 0o700)?;
            }
            let lock = self.open_lock()?;
            let alone = match lock.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(err)) => return Err(err.into()),
            };
            if alone {
                let version = format!("{VERSION}\n");
                if sys::fs::read_to_string(&self.version_path()).is_err() {
                    let path = self.version_path();
                    sys::fs::write_atomic(&path, version.as_bytes(), 0o600, Durability::Disk)?;
                }
                self.sweep()?;
            }
            lock.lock_shared()?;
            Ok(Writer { store: self, lock })
        };
        opened()
            .with_context(|| format!("opening the image store '{}'", self.images_dir().display()))
    }

    /// The lock, shared, of a store that is open for writing: nothing is removed meanwhile. For
    /// moments, never across the network.
    pub(super) fn moment(&self) -> anyhow::Result<Writer<'_>> {
        let locked = || -> anyhow::Result<File> {
            let lock = self.open_lock()?;
            lock.lock_shared()?;
            Ok(lock)
        };
        let lock = locked().context("waiting for the image store's lock")?;
        Ok(Writer { store: self, lock })
    }
}

impl Store {
    /// The lock of the references: who changes names reads them first, so one at a time.
    pub(super) fn lock_names(&self) -> anyhow::Result<File> {
        self.lock_references(File::lock)
    }

    /// The same lock, shared: names do not change meanwhile.
    pub(super) fn share_names(&self) -> anyhow::Result<File> {
        self.lock_references(File::lock_shared)
    }

    fn lock_references(&self, take: fn(&File) -> io::Result<()>) -> anyhow::Result<File> {
        let lock = || -> io::Result<File> {
            let dir = File::open(self.references_dir())?;
            take(&dir)?;
            Ok(dir)
        };
        lock().context("waiting for the lock of the references")
    }

    fn open_lock(&self) -> anyhow::Result<File> {
        let path = self.images_dir().join("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening '{}'", path.display()))
    }
}

/// The store, open for a moment of writing. Others may write too; nothing is removed under them.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Writable,
    lock: File,
}

impl Writer<'_> {
    /// The store.
    pub fn store(&self) -> &Writable {
        self.store
    }

    /// Lets `reference` lead to the manifest `digest`, which is in the store and flushed: this
    /// rename makes an image visible. An image that loses its only name keeps its content, under
    /// no name, because containers may run it.
    pub fn set_reference(&self, reference: &Reference, digest: &Digest) -> anyhow::Result<()> {
        let _names = self.store.lock_names()?;
        // That the image is one of an index was learnt by a pull and is no less true of this name.
        let records = self.store.records()?;
        let of_image = records.iter().filter(|record| record.digest == *digest);
        let same = of_image
            .clone()
            .find(|record| record.reference.as_ref() == Some(reference));
        let index = same
            .and_then(|record| record.index)
            .or_else(|| of_image.clone().find_map(|record| record.index));
        self.replace_reference(reference, digest, index.as_ref())
    }

    /// As [`Writer::set_reference`], with the index that the name led to on its registry.
    pub(super) fn set_pulled(
        &self,
        reference: &Reference,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> anyhow::Result<()> {
        let _names = self.store.lock_names()?;
        self.replace_reference(reference, digest, index)
    }

    /// The caller holds the lock of the references.
    fn replace_reference(
        &self,
        reference: &Reference,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> anyhow::Result<()> {
        let name = file_name(Some(reference), None);
        match self.store.load_record(&name) {
            Ok(Some(old)) if old.digest != *digest => {
                let others = self.store.records()?;
                let named = |record: &&Record| record.digest == old.digest;
                if others.iter().filter(named).count() <= 1 {
                    self.keep_unnamed(&old.digest, old.index)?;
                }
            }
            Ok(Some(_) | None) => {}
            Err(_) => self.ensure_used_kept()?,
        }
        self.write_record(Record {
            version: VERSION,
            reference: Some(reference.clone()),
            digest: *digest,
            index: index.copied(),
        })?;
        // A name is enough.
        let unnamed = self.record_path(&file_name(None, Some(digest)));
        Ok(sys::fs::remove_file(&unnamed)?)
    }

    /// Keeps the manifest `digest`, under no name, unless it has one.
    pub(super) fn keep(&self, digest: &Digest) -> anyhow::Result<()> {
        let _names = self.store.lock_names()?;
        self.ensure_kept(digest)
    }

    /// Takes away what keeps the manifest `digest` under no name, if its documents are damaged.
    pub(super) fn forget_unnamed(&self, digest: &Digest) -> anyhow::Result<()> {
        let _names = self.store.lock_names()?;
        if sift(self.store.documents(digest))?.is_some() {
            return Ok(());
        }
        sys::fs::remove_file(&self.record_path(&file_name(None, Some(digest))))?;
        Ok(sys::fs::sync_dir(&self.store.references_dir())?)
    }

    /// As [`Writer::keep`]; the caller holds the lock of the references.
    fn ensure_kept(&self, digest: &Digest) -> anyhow::Result<()> {
        let records = self.store.records()?;
        match records.iter().any(|record| record.digest == *digest) {
            true => Ok(()),
            false => self.keep_unnamed(digest, None),
        }
    }

    /// Before a reference goes that cannot be read: it may be all that leads to an image in use.
    fn ensure_used_kept(&self) -> anyhow::Result<()> {
        for digest in self.store.in_use()?.keys() {
            self.ensure_kept(digest)
                .context("keeping the image of a running container")?;
        }
        Ok(())
    }

    fn keep_unnamed(&self, digest: &Digest, index: Option<Digest>) -> anyhow::Result<()> {
        self.write_record(Record {
            version: VERSION,
            reference: None,
            digest: *digest,
            index,
        })
    }

    /// Writes a reference's file, unless it says the same already.
    fn write_record(&self, record: Record) -> anyhow::Result<()> {
        let name = file_name(record.reference.as_ref(), Some(&record.digest));
        if self.store.load_record(&name).ok().flatten().as_ref() == Some(&record) {
            return Ok(());
        }
        let json = serde_json::to_vec(&record)?;
        let path = self.record_path(&name);
        Ok(sys::fs::write_atomic(
            &path,
            &json,
            0o600,
            Durability::Disk,
        )?)
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.store.references_dir().join(name)
    }

    /// Removes a name, or with an id all names of the image; never the last one of an image that
    /// is in use.
    pub fn remove(&self, text: &str) -> anyhow::Result<Vec<Record>> {
        let _names = self.store.lock_names()?;
        let (reference, digest) = self.store.find(text)?;
        let records = self.store.records()?;
        let of_image = || records.iter().filter(|record| record.digest == digest);
        // An id looks like a name too; only a name that is written leads to one record.
        let written = text.parse::<Reference>().ok();
        let written = written.filter(|written| written.digest().is_none());
        let local = written.as_ref().and_then(Reference::on_localhost);
        let named = reference.is_some()
            && (reference == written || reference == local)
            && of_image().any(|record| record.reference == reference);
        let removed: Vec<Record> = of_image()
            .filter(|record| !named || record.reference == reference)
            .cloned()
            .collect();
        // What was found a moment ago is passed over by a listing that cannot read it.
        ensure!(
            !removed.is_empty(),
            "the reference of '{}' cannot be read; see 'wharf image check'",
            text.escape_debug()
        );
        if removed.len() == of_image().count()
            && let Some(reasons) = self.store.in_use()?.get(&digest)
        {
            bail!(
                "image '{}' is in use ({}); stop the container or unmount the image first",
                text.escape_debug(),
                reasons.join(", ")
            );
        }
        self.unlink(&removed)?;
        Ok(removed)
    }

    /// Removes the image if it is `as_chosen` still and not in use; says whether it is gone.
    pub(super) fn remove_unless(
        &self,
        digest: &Digest,
        as_chosen: impl FnOnce() -> anyhow::Result<bool>,
    ) -> anyhow::Result<bool> {
        let _names = self.store.lock_names()?;
        if !as_chosen()? || self.store.in_use()?.contains_key(digest) {
            return Ok(false);
        }
        let mut records = self.store.records()?;
        records.retain(|record| record.digest == *digest);
        self.unlink(&records)?;
        Ok(true)
    }

    /// Removes the files of references.
    fn unlink(&self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            let name = file_name(record.reference.as_ref(), Some(&record.digest));
            sys::fs::remove_file(&self.record_path(&name))?;
        }
        Ok(sys::fs::sync_dir(&self.store.references_dir())?)
    }

    /// Removes a reference whose file cannot be read. Nothing tells which image it was, and
    /// something may use it: what is in use keeps a name.
    pub(super) fn remove_damaged(&self, name: &str) -> anyhow::Result<()> {
        let _names = self.store.lock_names()?;
        self.ensure_used_kept()?;
        sys::fs::remove_file(&self.record_path(name))?;
        Ok(sys::fs::sync_dir(&self.store.references_dir())?)
    }

    /// Removes what nothing refers to, unless somebody else is writing: then the next writer does.
    pub fn collect(self) -> anyhow::Result<()> {
        self.lock.unlock()?;
        match self.lock.try_lock() {
            Ok(()) => self.store.sweep(),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(err)) => Err(err.into()),
        }
    }
}
