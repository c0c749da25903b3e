// SPDX-License-Identifier: Apache-2.0
//! What images take up, so that it adds up: each tree and each blob belongs to one image alone, or
//! to several.
//!
//! A size is that of the unpacked layers and of the blobs they came as, since both are kept and
//! removing an image frees both. It is the sum of the files' lengths; blocks are the file system's
//! affair.

use std::collections::{BTreeMap, BTreeSet};

use super::Digest;
use super::store::Store;
use crate::storage::layer;
use crate::sys;

/// What one image takes up, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Its unpacked layers.
    pub bytes: u64,
    /// Its manifest, its config and its layers as they came.
    pub blob_bytes: u64,
    /// What other images need too.
    pub shared_bytes: u64,
    /// What only this image needs: removing all its names frees so much.
    pub unique_bytes: u64,
}

impl Size {
    /// Everything.
    pub fn total(&self) -> u64 {
        self.bytes + self.blob_bytes
    }
}

/// A tree or a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Tree(Digest),
    Blob(Digest),
}

/// The sizes of all images of a store.
#[derive(Debug, Default)]
pub struct Sizes {
    images: BTreeMap<Digest, BTreeMap<Part, u64>>,
    /// How many images need a part.
    needed: BTreeMap<Part, usize>,
}

impl Sizes {
    /// Reads the documents of all images. Of a damaged image as much counts as is known.
    pub fn load(store: &Store) -> anyhow::Result<Self> {
        let mut sizes = Self::default();
        let digests: BTreeSet<Digest> = store.records()?.iter().map(|r| r.digest).collect();
        for digest in digests {
            let parts = parts_of(store, &digest);
            for part in parts.keys() {
                *sizes.needed.entry(*part).or_default() += 1;
            }
            sizes.images.insert(digest, parts);
        }
        Ok(sizes)
    }

    /// The size of the image with this manifest.
    pub fn of(&self, digest: &Digest) -> Size {
        let mut size = Size::default();
        for (part, bytes) in self.images.get(digest).into_iter().flatten() {
            let sum = match part {
                Part::Tree(_) => &mut size.bytes,
                Part::Blob(_) => &mut size.blob_bytes,
            };
            *sum = sum.saturating_add(*bytes);
            let sum = match self.needed.get(part) {
                Some(1) => &mut size.unique_bytes,
                _ => &mut size.shared_bytes,
            };
            *sum = sum.saturating_add(*bytes);
        }
        size
    }

    /// What these images need and no other one does: so much is free when they are removed.
    pub fn freed_by(&self, images: &BTreeSet<Digest>) -> u64 {
        let mut needed: BTreeMap<Part, (usize, u64)> = BTreeMap::new();
        for digest in images {
            for (part, bytes) in self.images.get(digest).into_iter().flatten() {
                let entry = needed.entry(*part).or_insert((0, *bytes));
                entry.0 += 1;
            }
        }
        let only = needed
            .into_iter()
            .filter(|(part, (count, _))| self.needed.get(part) == Some(count));
        total(only.map(|(_, (_, bytes))| bytes))
    }

    /// How many of these images there are and what they take up together, what they share counted
    /// once.
    pub fn of_all(&self, images: &BTreeSet<Digest>) -> (usize, u64) {
        let images = images.iter().filter_map(|digest| self.images.get(digest));
        let all: BTreeMap<&Part, u64> = images
            .clone()
            .flatten()
            .map(|(part, bytes)| (part, *bytes))
            .collect();
        (images.count(), total(all.into_values()))
    }
}

fn parts_of(store: &Store, digest: &Digest) -> BTreeMap<Part, u64> {
    let mut parts = BTreeMap::new();
    let mut blob = |digest: &Digest| {
        let length = std::fs::symlink_metadata(store.blob_path(digest)).map_or(0, |m| m.len());
        parts.insert(Part::Blob(*digest), length);
    };
    blob(digest);
    let Ok(documents) = store.documents(digest) else {
        return parts;
    };
    blob(&documents.manifest.config.digest);
    documents
        .manifest
        .layers
        .iter()
        .for_each(|layer| blob(&layer.digest));
    for diff_id in &documents.config.diff_ids {
        let bytes = layer::load(store.layers_dir(), diff_id).map_or(0, |record| record.bytes);
        parts.insert(Part::Tree(*diff_id), bytes);
    }
    parts
}

/// A sum of what damaged files say, which can be anything.
pub(super) fn total(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// What is on the disk, needed or not: blobs and trees by their names, with their sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    parts: BTreeMap<(&'static str, Digest), u64>,
}

impl Stored {
    /// Looks.
    pub fn load(store: &Store) -> anyhow::Result<Self> {
        let mut parts = BTreeMap::new();
        let digests = |dir: &std::path::Path| -> anyhow::Result<Vec<Digest>> {
            let names = sys::fs::list_dir(dir)?;
            let hex = names.iter().filter_map(|name| name.to_str());
            Ok(hex.filter_map(|hex| Digest::parse_hex(hex).ok()).collect())
        };
        for digest in digests(&store.blobs_dir())? {
            let length = std::fs::symlink_metadata(store.blob_path(&digest)).map_or(0, |m| m.len());
            parts.insert(("blob", digest), length);
        }
        for diff_id in digests(store.layers_dir())? {
            let bytes = layer::load(store.layers_dir(), &diff_id).map_or(0, |record| record.bytes);
            parts.insert(("layer", diff_id), bytes);
        }
        Ok(Self { parts })
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        total(self.parts.values().copied())
    }

    /// Bytes of what is in this and not in `after`: what others added meanwhile does not count.
    pub fn freed(&self, after: &Self) -> u64 {
        let gone = self
            .parts
            .iter()
            .filter(|(part, _)| !after.parts.contains_key(part));
        total(gone.map(|(_, bytes)| *bytes))
    }
}
