// SPDX-License-Identifier: Apache-2.0
//! What one image is: what it says about itself, how it was built, how it differs from another.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::digest::Digest;
use crate::engine::difference::Difference;
use crate::engine::images::needs::{self, Reason};
use crate::image::config::{ConfigFile, HistoryEntry};
use crate::image::manifest::Descriptor;
use crate::image::mounts;
use crate::image::size::{Size, Sizes};
use crate::image::store::{Documents, Record, Store};
use crate::image::used;
use crate::paths::Paths;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::storage::layer;
use crate::storage::merged;

/// An image and what the machine knows of it.
#[derive(Debug)]
pub struct Inspected {
    /// Its names.
    pub references: Vec<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The blob of its config; the digest is what others call the image's id.
    pub config_blob: Blob,
    /// The blobs that its layers came as, lowest first.
    pub layer_blobs: Vec<Blob>,
    /// What it says about itself.
    pub config: ConfigFile,
    /// When it was last started, loaded, pulled or named.
    pub used: SystemTime,
    /// What it takes up.
    pub size: Size,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Why it cannot be removed now.
    pub in_use: Vec<Reason>,
    /// Where it is mounted, if it is.
    pub mounted_at: Option<PathBuf>,
}

/// A part of an image, as its manifest names it.
#[derive(Debug)]
pub struct Blob {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// For which machines it is.
    pub platform: Option<Platform>,
    /// Names and other data.
    pub annotations: Option<BTreeMap<String, String>>,
}

impl From<Descriptor> for Blob {
    fn from(descriptor: Descriptor) -> Self {
        let Descriptor {
            media_type,
            digest,
            size,
            platform,
            annotations,
        } = descriptor;
        Self {
            media_type,
            digest,
            size,
            platform,
            annotations,
        }
    }
}

/// A layer of an image.
#[derive(Debug)]
pub struct Layer {
    /// Digest of the plain archive.
    pub diff_id: Digest,
    /// Digest of the layer as it came.
    pub digest: Digest,
    /// What it came as.
    pub media_type: String,
    /// Bytes of the layer as it came.
    pub blob_bytes: u64,
    /// Bytes of the unpacked layer.
    pub bytes: u64,
    /// Entries of the unpacked layer.
    pub entries: u64,
}

/// Inspects images, by references or ids.
pub fn inspect(paths: &Paths, images: &[String]) -> anyhow::Result<Vec<Inspected>> {
    let store = Store::open(paths)?;
    let sizes = Sizes::load(&store)?;
    let inspected = images
        .iter()
        .map(|text| inspect_one(paths, &store, &sizes, text));
    inspected.collect()
}

fn inspect_one(
    paths: &Paths,
    store: &Store,
    sizes: &Sizes,
    text: &str,
) -> anyhow::Result<Inspected> {
    let (_, digest) = store.find(text)?;
    let Documents {
        manifest, config, ..
    } = store.documents(&digest)?;
    let records = store.records()?;
    let names: Vec<&Record> = records.iter().filter(|r| r.digest == digest).collect();
    let used = names.iter().filter_map(|r| used::last_used(store, r)).max();
    let layers = manifest.layers.iter().zip(&config.diff_ids);
    let layers = layers.map(|(descriptor, diff_id)| {
        // `image check` is what looks for damage.
        let record = layer::load(store.layers_dir(), diff_id).ok();
        Layer {
            diff_id: *diff_id,
            digest: descriptor.digest,
            media_type: descriptor.media_type.clone(),
            blob_bytes: descriptor.size,
            bytes: record.as_ref().map_or(0, |record| record.bytes),
            entries: record.map_or(0, |record| record.entries),
        }
    });
    let in_use = needs::in_use(paths)?.remove(&digest).unwrap_or_default();
    let is_mounted = in_use.contains(&Reason::Mounted);
    Ok(Inspected {
        references: names.iter().filter_map(|r| r.reference.clone()).collect(),
        digest,
        used: used.unwrap_or(SystemTime::UNIX_EPOCH),
        size: sizes.of(&digest),
        layers: layers.collect(),
        in_use: in_use.into_iter().collect(),
        mounted_at: is_mounted.then(|| mounts::target(paths, &digest)),
        config_blob: manifest.config.into(),
        layer_blobs: manifest.layers.into_iter().map(Blob::from).collect(),
        config,
    })
}

/// A step of how an image was built, a layer, or both: images may say less of their history than
/// they have layers.
#[derive(Debug, Default)]
pub struct Step {
    /// What the image says of the step.
    pub entry: HistoryEntry,
    /// The layer.
    pub diff_id: Option<Digest>,
    /// Bytes of the unpacked layer; none when it is damaged.
    pub bytes: Option<u64>,
    /// Bytes of the layer as it came.
    pub blob_bytes: Option<u64>,
}

/// How an image was built: its digest, and the steps, the last one first.
pub fn history(paths: &Paths, image: &str) -> anyhow::Result<(Digest, Vec<Step>)> {
    let store = Store::open(paths)?;
    let (_, digest) = store.find(image)?;
    let mut steps = steps(&store, store.documents(&digest)?);
    steps.reverse();
    Ok((digest, steps))
}

fn steps(store: &Store, documents: Documents) -> Vec<Step> {
    let config = documents.config;
    let blobs = documents.manifest.layers.iter();
    let mut layers = config.diff_ids.iter().zip(blobs);
    let mut next_layer = |step: &mut Step| match layers.next() {
        Some((diff_id, blob)) => {
            let record = layer::load(store.layers_dir(), diff_id).ok();
            step.diff_id = Some(*diff_id);
            step.bytes = record.map(|record| record.bytes);
            step.blob_bytes = Some(blob.size);
            true
        }
        None => false,
    };
    let mut steps = Vec::new();
    for entry in config.history {
        let mut step = Step {
            entry,
            ..Step::default()
        };
        if !step.entry.empty_layer {
            next_layer(&mut step);
        }
        steps.push(step);
    }
    loop {
        let mut step = Step::default();
        if !next_layer(&mut step) {
            return steps;
        }
        steps.push(step);
    }
}

/// A path that differs between two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What became of it.
    pub difference: Difference,
    /// Where, from `/`.
    pub path: PathBuf,
}

/// Compares an image with another one; without one, with what it was before its last layer.
pub fn differences(
    paths: &Paths,
    image: &str,
    other: Option<&str>,
) -> anyhow::Result<Vec<Changed>> {
    let store = Store::open(paths)?;
    let layers = |text: &str| -> anyhow::Result<Vec<Digest>> {
        let (_, digest) = store.find(text)?;
        Ok(store.documents(&digest)?.config.diff_ids)
    };
    let first = layers(image)?;
    let (from, to) = match other {
        Some(other) => (first, layers(other)?),
        None => {
            let below = first.split_last().map(|(_, below)| below.to_vec());
            (below.unwrap_or_default(), first)
        }
    };
    let differences = merged::diff(store.layers_dir(), &from, &to)?.into_iter();
    let changed = differences.map(|found| Changed {
        difference: found.kind.into(),
        path: found.path,
    });
    Ok(changed.collect())
}
