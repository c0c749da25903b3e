// SPDX-License-Identifier: Apache-2.0
//! The store: `images/{blobs,references}` and what refers to what.
//!
//! Reading takes no lock: a reference is one small file that is replaced by rename, and everything
//! it leads to was flushed before. Adding is `change`'s part; `writer` has the locks and changes
//! references, `sweep` removes what nothing refers to. `docs/storage.md` has the layout and the
//! order of a commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::Stamp;
use super::config::{self, ConfigFile};
use super::manifest::{self, DOCUMENT_BYTES_MAX, Document, Manifest};
use super::record::file_name;
use super::{Digest, Image, Reference};
use crate::paths::Paths;
use crate::storage::layer;
use crate::sys;

/// Version of the layout, in the file `images/version`.
pub(super) const VERSION: u32 = 1;

/// Largest file of a reference.
const RECORD_BYTES_MAX: u64 = 16 << 10;

/// Names of what is being made or removed begin with this.
pub(super) const STAGING_PREFIX: &str = ".staging-";

/// The images of one machine or user, to be read. [`Writable`](super::users::Writable) is the store for whoever
/// adds, removes or replaces.
#[derive(Debug)]
pub struct Store {
    images: PathBuf,
    layers: PathBuf,
    pub(super) paths: Paths,
}

/// A reference's file: what a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub(super) version: u32,
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
            paths: paths.clone(),
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
            let mut stamps = Vec::with_capacity(layers.capacity());
            for diff_id in &documents.config.diff_ids {
                // An opaque root hides everything below it, which overlayfs does not know of roots.
                if layer::load(&self.layers, diff_id)?.opaque {
                    layers.clear();
                    stamps.clear();
                }
                let tree = layer::tree(&self.layers, diff_id);
                stamps.push(Stamp::of(&tree)?);
                layers.push(tree);
            }
            Ok(Image {
                reference,
                digest,
                config: documents.config.config,
                layers,
                stamps,
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
            let again = || {
                format!(
                    "its blob '{}' is missing or damaged; load or pull the image again",
                    layer.digest
                )
            };
            let found =
                std::fs::symlink_metadata(self.blob_path(&layer.digest)).with_context(again)?;
            ensure!(found.is_file() && found.len() == layer.size, again());
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
}
