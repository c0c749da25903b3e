// SPDX-License-Identifier: Apache-2.0
//! Reading the whole store and naming what is damaged.
//!
//! Every file is covered by a digest that is elsewhere: blobs by their names, trees by `facts`,
//! that by `layer.json`, references by what they lead to (threats S6, S7, K8).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

use anyhow::{Context as _, ensure};

use super::damage::is_damage;
use super::record::file_name;
use super::store::{Documents, Record, Store};
use super::{Digest, Reference};
use crate::digest::Hashing;
use crate::storage::layer;
use crate::storage::member::printable;
use crate::sys;

/// Where something is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file of a reference, by its name, or a document that it leads to.
    Reference(String),
    /// A blob.
    Blob(Digest),
    /// A layer, by its diff ID.
    Layer(Digest),
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it is, for programs.
    pub place: Place,
    /// `reference`, `blob`, `layer` or `store`, and which one.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
    /// Whether that is what is stored; else the machine could not read it.
    pub is_damage: bool,
    /// The images that need it.
    pub images: Vec<String>,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// References read.
    pub references: usize,
    /// Blobs read.
    pub blobs: usize,
    /// Layers read.
    pub layers: usize,
    /// What is wrong; empty when all is well.
    pub findings: Vec<Finding>,
}

#[derive(Default)]
struct Needed {
    blobs: BTreeMap<Digest, BTreeSet<String>>,
    layers: BTreeMap<Digest, BTreeSet<String>>,
}

/// Reads everything in the store. `report` gets the name of what is about to be read.
pub fn check(store: &Store, report: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    // Keeps others from removing what is being read; without a lock file nothing was ever written.
    let lock = File::open(store.images_dir().join("lock"));
    if let Ok(lock) = &lock {
        lock.lock_shared()
            .context("waiting for the image store's lock")?;
    }
    let mut result = Report::default();
    let mut needed = Needed::default();
    for name in store.record_names()? {
        result.references += 1;
        check_reference(store, &name, &mut needed, &mut result);
    }
    let stored = |dir: &std::path::Path| -> anyhow::Result<BTreeSet<Digest>> {
        let names = sys::fs::list_dir(dir)?;
        let hex = names.iter().filter_map(|name| name.to_str());
        Ok(hex.filter_map(|hex| Digest::parse_hex(hex).ok()).collect())
    };
    let mut blobs = stored(&store.blobs_dir())?;
    blobs.extend(needed.blobs.keys());
    for digest in blobs {
        result.blobs += 1;
        report(&format!("blob {}", digest.short()));
        if let Err(err) = check_blob(store, &digest) {
            let images = needed.blobs.get(&digest);
            result.add(Place::Blob(digest), err, images);
        }
    }
    let mut layers = stored(store.layers_dir())?;
    layers.extend(needed.layers.keys());
    for diff_id in layers {
        result.layers += 1;
        report(&format!("layer {}", diff_id.short()));
        for problem in layer::check(store.layers_dir(), &diff_id) {
            let images = needed.layers.get(&diff_id);
            result.add(Place::Layer(diff_id), problem, images);
        }
    }
    Ok(result)
}

impl Report {
    fn add(&mut self, place: Place, err: anyhow::Error, images: Option<&BTreeSet<String>>) {
        self.findings.push(Finding {
            subject: place.to_string(),
            place,
            is_damage: is_damage(&err),
            problem: format!("{err:#}"),
            images: images.into_iter().flatten().cloned().collect(),
        });
    }
}

fn check_reference(store: &Store, name: &str, needed: &mut Needed, result: &mut Report) {
    match read_reference(store, name) {
        Ok((record, documents)) => {
            let image = record
                .reference
                .as_ref()
                .map_or_else(|| record.digest.to_string(), Reference::to_string);
            let mut need = |digest: &Digest| {
                let images = needed.blobs.entry(*digest).or_default();
                images.insert(image.clone());
            };
            need(&record.digest);
            need(&documents.manifest.config.digest);
            documents
                .manifest
                .layers
                .iter()
                .for_each(|layer| need(&layer.digest));
            for diff_id in documents.config.diff_ids {
                let images = needed.layers.entry(diff_id).or_default();
                images.insert(image.clone());
            }
        }
        Err(err) => {
            let place = Place::Reference(name.to_owned());
            result.add(place, err, None);
        }
    }
}

fn read_reference(store: &Store, name: &str) -> anyhow::Result<(Record, Documents)> {
    let record = store
        .load_record(name)?
        .context("it vanished while it was read")?;
    let expected = file_name(record.reference.as_ref(), Some(&record.digest));
    ensure!(expected == name, "its content belongs to '{expected}'");
    let documents = store.documents(&record.digest)?;
    Ok((record, documents))
}

impl Place {
    /// Looks at it again: what is wrong with it now, if anything is. What is not there any more
    /// and nothing needs is not wrong.
    pub(super) fn problem(&self, store: &Store) -> Option<String> {
        let result = match self {
            Self::Reference(name) => read_reference(store, name).map(drop),
            Self::Blob(digest) => check_blob(store, digest),
            Self::Layer(diff_id) => {
                let first = layer::check(store.layers_dir(), diff_id).into_iter().next();
                first.map_or(Ok(()), Err)
            }
        };
        result.err().map(|err| format!("{err:#}"))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reference(name) => write!(f, "reference {}", printable(name.as_bytes())),
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Layer(diff_id) => write!(f, "layer {diff_id}"),
        }
    }
}

fn check_blob(store: &Store, digest: &Digest) -> anyhow::Result<()> {
    let path = store.blob_path(digest);
    let metadata = std::fs::symlink_metadata(&path)
        .with_context(|| format!("reading '{}'", path.display()))?;
    ensure!(metadata.is_file(), "it is not a regular file");
    let file = File::open(&path).with_context(|| format!("reading '{}'", path.display()))?;
    let mut reader = Hashing::new(file);
    io::copy(&mut reader, &mut io::sink())
        .with_context(|| format!("reading '{}'", path.display()))?;
    let (found, _, _) = reader.finish();
    ensure!(found == *digest, "its content is {found}");
    Ok(())
}
