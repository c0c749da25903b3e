// SPDX-License-Identifier: Apache-2.0
//! The store: `images/{blobs,references}` and what refers to what.
//!
//! Reading takes no lock: a reference is one small file that is replaced by rename, and everything
//! it leads to was flushed before. Adding is `change`'s part, which holds the store's kernel lock,
//! shared, for moments only; removing what nothing refers to needs it alone and leaves what living
//! changes rely on. `docs/storage.md` has the layout and the order of a commit.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::config::{self, ConfigFile};
use super::flight;
use super::lease;
use super::manifest::{self, DOCUMENT_BYTES_MAX, Document, Manifest};
pub(super) use super::record::file_name;
use super::{Digest, Image, Reference};
use crate::paths::Paths;
use crate::storage::layer;
use crate::sys;
use crate::sys::dir::Dir;
use crate::sys::fs::Durability;

/// Version of the layout, in the file `images/version`.
const VERSION: u32 = 1;

/// Largest file of a reference.
const RECORD_BYTES_MAX: u64 = 16 << 10;

/// Names of what is being made or removed begin with this.
pub(super) const STAGING_PREFIX: &str = ".staging-";

/// The images of one machine or user.
#[derive(Debug)]
pub struct Store {
    images: PathBuf,
    layers: PathBuf,
}

/// A reference's file: what a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The name; none for an image whose name was given to another one.
    pub reference: Option<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The index that the name led to on its registry, when the manifest was chosen from one. The
    /// digests that people pin are those of indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
}

impl Record {
    /// Whether content that is asked for by this digest is this image.
    fn is_called(&self, digest: &Digest) -> bool {
        self.digest == *digest || self.index.as_ref() == Some(digest)
    }
}

/// An image's documents, verified against their digests.
#[derive(Debug)]
pub struct Documents {
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// The config blob.
    pub config: ConfigFile,
}

impl Store {
    /// The store below `paths`, which may not be there yet.
    ///
    /// # Errors
    ///
    /// A newer wharf has written it.
    pub fn open(paths: &Paths) -> anyhow::Result<Self> {
        let store = Self {
            images: paths.images(),
            layers: paths.layers(),
        };
        let path = store.version_path();
        match sys::fs::read_to_string(&path) {
            Err(err) if err.is_absent() => Ok(store),
            Err(err) => Err(err.into()),
            Ok(text) => match text.strip_suffix('\n').unwrap_or(&text).parse::<u32>() {
                Ok(VERSION) => Ok(store),
                Ok(other) => bail!(
                    "the image store '{}' has version {other}, this wharf knows {VERSION}; install \
                     the wharf that wrote it",
                    store.images.display()
                ),
                Err(_) => bail!("'{}' is damaged; write '{VERSION}' into it", path.display()),
            },
        }
    }

    pub(super) fn version_path(&self) -> PathBuf {
        self.images.join("version")
    }

    /// Where unpacked layers are.
    pub fn layers_dir(&self) -> &Path {
        &self.layers
    }

    pub(super) fn images_dir(&self) -> &Path {
        &self.images
    }

    pub(super) fn references_dir(&self) -> PathBuf {
        self.images.join("references")
    }

    pub(super) fn blobs_dir(&self) -> PathBuf {
        self.images.join("blobs/sha256")
    }

    pub(super) fn flights_dir(&self) -> PathBuf {
        self.images.join("flights")
    }

    /// The file of a blob.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs_dir().join(digest.hex())
    }

    /// The image that a reference, a digest or the start of an image's id names, ready to be run.
    pub fn resolve(&self, text: &str) -> anyhow::Result<Image> {
        let (reference, digest) = self.find(text)?;
        let image = || -> anyhow::Result<Image> {
            let documents = self.documents(&digest)?;
            let mut layers = Vec::with_capacity(documents.config.diff_ids.len());
            for diff_id in &documents.config.diff_ids {
                // An opaque root hides everything below it, which overlayfs does not know of roots.
                if layer::load(&self.layers, diff_id)?.opaque {
                    layers.clear();
                }
                layers.push(layer::tree(&self.layers, diff_id));
            }
            Ok(Image {
                reference: reference.map_or_else(|| digest.to_string(), |r| r.to_string()),
                digest: digest.to_string(),
                config: documents.config.config,
                layers,
            })
        };
        image().with_context(|| format!("opening image '{}'", text.escape_debug()))
    }

    /// The reference and the manifest's digest that `text` names.
    pub fn find(&self, text: &str) -> anyhow::Result<(Option<Reference>, Digest)> {
        let absent = || {
            anyhow!(
                "image '{}' is not in the store; bring it with 'wharf image pull' or 'wharf image load'",
                text.escape_debug()
            )
        };
        if text.starts_with("sha256:") {
            let digest: Digest = text.parse()?;
            let record = self.records()?.into_iter().find(|r| r.is_called(&digest));
            return match record {
                Some(record) => Ok((record.reference, record.digest)),
                None => self.find_by_id(&digest.hex())?.ok_or_else(absent),
            };
        }
        let reference: Reference = text.parse()?;
        if let Some(digest) = reference.digest() {
            let records = self.records()?;
            // An index has several images: the one that this very name brought is meant.
            let found = records
                .iter()
                .find(|record| record.reference.as_ref() == Some(&reference))
                .or_else(|| records.iter().find(|record| record.digest == *digest))
                .or_else(|| records.iter().find(|record| record.is_called(digest)));
            let found = found.ok_or_else(absent)?;
            return Ok((Some(reference.clone()), found.digest));
        }
        for candidate in std::iter::once(reference.clone()).chain(reference.on_localhost()) {
            if let Some(record) = self.load_record(&file_name(Some(&candidate), None))? {
                ensure!(
                    record.reference.as_ref() == Some(&candidate),
                    "the file of reference '{candidate}' is damaged; load the image again"
                );
                return Ok((Some(candidate), record.digest));
            }
        }
        let is_id = text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match is_id {
            true => self.find_by_id(text)?.ok_or_else(absent),
            false => Err(absent()),
        }
    }

    /// Finds an image by the first digits of its manifest's or its config's digest.
    fn find_by_id(&self, start: &str) -> anyhow::Result<Option<(Option<Reference>, Digest)>> {
        let mut found: Vec<Record> = Vec::new();
        for record in self.records()? {
            let manifest = record.digest.hex().starts_with(start);
            let config = || -> anyhow::Result<bool> {
                let documents = self.documents(&record.digest)?;
                Ok(documents.manifest.config.digest.hex().starts_with(start))
            };
            if manifest || config().unwrap_or(false) {
                found.push(record);
            }
        }
        let digests: BTreeSet<Digest> = found.iter().map(|record| record.digest).collect();
        ensure!(
            digests.len() <= 1,
            "'{start}' begins the ids of {} images; give more digits",
            digests.len()
        );
        Ok(found.pop().map(|record| (record.reference, record.digest)))
    }

    /// All references, sorted by name; files that cannot be read are left out.
    pub fn records(&self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        for name in self.record_names()? {
            // `check` names what is damaged; the rest must go on working.
            records.extend(self.load_record(&name).ok().flatten());
        }
        records.sort_by_key(|record| record.reference.as_ref().map(Reference::to_string));
        Ok(records)
    }

    pub(super) fn record_names(&self) -> anyhow::Result<Vec<String>> {
        Ok(sys::fs::list_dir(&self.references_dir())?
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .filter(|name| !name.starts_with(".#"))
            .collect())
    }

    pub(super) fn load_record(&self, name: &str) -> anyhow::Result<Option<Record>> {
        let path = self.references_dir().join(name);
        let bytes = match sys::fs::read_limited(&path, RECORD_BYTES_MAX) {
            Err(err) if err.is_absent() => return Ok(None),
            other => other?,
        };
        let record: Record = serde_json::from_slice(&bytes)
            .with_context(|| format!("reading '{}'", path.display()))?;
        ensure!(
            record.version == VERSION,
            "'{}' has version {}, this wharf knows {VERSION}",
            path.display(),
            record.version
        );
        Ok(Some(record))
    }

    /// Reads and verifies the manifest `digest` and its config.
    pub fn documents(&self, digest: &Digest) -> anyhow::Result<Documents> {
        let bytes = self.read_blob(digest)?;
        let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
            bail!("the reference leads to an index, not to an image");
        };
        let config = config::parse(&self.read_blob(&manifest.config.digest)?)?;
        ensure!(
            config.diff_ids.len() == manifest.layers.len(),
            "the manifest has {} layers, but the config {} diff IDs",
            manifest.layers.len(),
            config.diff_ids.len()
        );
        Ok(Documents {
            digest: *digest,
            manifest,
            config,
        })
    }

    /// Fails unless everything that the documents name is there; contents of layers are not read.
    pub fn require_whole(&self, documents: &Documents) -> anyhow::Result<()> {
        for layer in &documents.manifest.layers {
            let found = std::fs::symlink_metadata(self.blob_path(&layer.digest));
            ensure!(
                found.is_ok_and(|found| found.is_file() && found.len() == layer.size),
                "its blob '{}' is missing or damaged; load or pull the image again",
                layer.digest
            );
        }
        for diff_id in &documents.config.diff_ids {
            layer::load(&self.layers, diff_id)?;
        }
        Ok(())
    }

    /// Whether the name leads to the manifest or the index `digest`.
    pub(super) fn leads_to(&self, name: &Reference, digest: &Digest) -> anyhow::Result<bool> {
        let record = self.load_record(&file_name(Some(name), None))?;
        Ok(record.is_some_and(|record| record.is_called(digest)))
    }

    /// Reads a small blob and verifies its digest.
    pub fn read_blob(&self, digest: &Digest) -> anyhow::Result<Vec<u8>> {
        let bytes = sys::fs::read_limited(&self.blob_path(digest), DOCUMENT_BYTES_MAX)?;
        let found = Digest::of(&bytes);
        ensure!(
            found == *digest,
            "blob '{digest}' is damaged: its content is {found}; remove and load the image again"
        );
        Ok(bytes)
    }

    /// Opens the store for a moment of writing, such as to change names; what a killed writer left
    /// is removed when nobody else is at it.
    pub fn write(&self) -> anyhow::Result<Writer<'_>> {
        let opened = || -> anyhow::Result<Writer<'_>> {
            for dir in [
                self.images.clone(),
                self.layers.clone(),
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
        opened().with_context(|| format!("opening the image store '{}'", self.images.display()))
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

    fn open_lock(&self) -> anyhow::Result<File> {
        let path = self.images.join("lock");
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening '{}'", path.display()))
    }

    /// Removes what was being made or removed when its writer died, and what nothing refers to.
    /// The caller holds the lock alone.
    fn sweep(&self) -> anyhow::Result<()> {
        let live = lease::live(&self.images)?;
        for dir in [self.images.as_path(), self.layers.as_path()] {
            remove_matching(dir, |name| {
                name.starts_with(STAGING_PREFIX) && !live.contains(name)
            })?;
        }
        remove_matching(&self.references_dir(), |name| name.starts_with(".#"))?;
        remove_matching(&self.images, |name| name.starts_with(".#"))?;
        flight::sweep(self)?;
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
        let layers = Dir::open(&self.layers)?;
        for name in layers.names()? {
            let unused = |name: &&str| is_ours(name) && !used.layers.contains(*name);
            let Some(name) = name.to_str().filter(unused) else {
                continue;
            };
            // Out of sight in one step: half of a layer is never under a layer's name.
            let moved = format!("{STAGING_PREFIX}{name}");
            layers.rename(name.as_ref(), &layers, moved.as_ref())?;
            layers.remove_tree(moved.as_ref())?;
        }
        Ok(())
    }

    /// What references lead to and what living changes rely on.
    ///
    /// # Errors
    ///
    /// A reference or a manifest is damaged, which hides what is in use.
    pub(super) fn used(&self) -> anyhow::Result<Used> {
        let mut used = Used::default();
        for name in lease::live(&self.images)? {
            let uses = lease::uses(&self.images, &name)?;
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

fn remove_matching(dir: &Path, matches: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let dir = Dir::open(dir)?;
    for name in dir.names()? {
        if name.to_str().is_some_and(&matches) {
            dir.remove_tree(&name)?;
        }
    }
    Ok(())
}

/// The store, open for a moment of writing. Others may write too; nothing is removed under them.
#[derive(Debug)]
pub struct Writer<'a> {
    store: &'a Store,
    lock: File,
}

impl Writer<'_> {
    /// The store.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// Lets `reference` lead to the manifest `digest`, which is in the store and flushed: this
    /// rename makes an image visible. An image that loses its only name keeps its content, under
    /// no name, because containers may run it.
    pub fn set_reference(&self, reference: &Reference, digest: &Digest) -> anyhow::Result<()> {
        self.set_pulled(reference, digest, None)
    }

    /// As [`Writer::set_reference`], with the index that the name led to on its registry.
    pub(super) fn set_pulled(
        &self,
        reference: &Reference,
        digest: &Digest,
        index: Option<&Digest>,
    ) -> anyhow::Result<()> {
        let _names = self.lock_names()?;
        let name = file_name(Some(reference), None);
        if let Ok(Some(old)) = self.store.load_record(&name)
            && old.digest != *digest
        {
            let others = self.store.records()?;
            let named = |record: &&Record| record.digest == old.digest;
            if others.iter().filter(named).count() <= 1 {
                self.keep_unnamed(&old.digest, old.index)?;
            }
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

    /// Who changes names reads them first, so one at a time.
    fn lock_names(&self) -> anyhow::Result<File> {
        let lock = || -> std::io::Result<File> {
            let dir = File::open(self.store.references_dir())?;
            dir.lock()?;
            Ok(dir)
        };
        lock().context("waiting for the lock of the references")
    }

    /// Keeps the manifest `digest`, under no name, unless it has one.
    pub(super) fn keep(&self, digest: &Digest) -> anyhow::Result<()> {
        let _names = self.lock_names()?;
        let records = self.store.records()?;
        match records.iter().any(|record| record.digest == *digest) {
            true => Ok(()),
            false => self.keep_unnamed(digest, None),
        }
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

    /// Removes a name, or with an id all names of the image, and then what nothing refers to any
    /// more. `in_use` are the manifests of images that containers run.
    pub fn remove(&self, text: &str, in_use: &BTreeSet<Digest>) -> anyhow::Result<Vec<Record>> {
        let _names = self.lock_names()?;
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
        ensure!(
            removed.len() < of_image().count() || !in_use.contains(&digest),
            "image '{}' is in use by a container; stop the container first",
            text.escape_debug()
        );
        for record in &removed {
            let name = file_name(record.reference.as_ref(), Some(&record.digest));
            sys::fs::remove_file(&self.record_path(&name))?;
        }
        sys::fs::sync_dir(&self.store.references_dir())?;
        Ok(removed)
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
