// SPDX-License-Identifier: Apache-2.0
//! `wharf image inspect`: what an image says about itself and what it takes up, as JSON.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::Images;
use crate::cli::terminal::Out;
use crate::engine::images::needs::{self, Reason};
use crate::image::manifest::Manifest;
use crate::image::size::{Size, Sizes};
use crate::image::store::{Record, Store};
use crate::image::used;
use crate::image::{Config, Digest, Reference};
use crate::paths::Paths;
use crate::platform::Platform;
use crate::storage::layer;

/// Print what an image says about itself, as JSON
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids
    #[arg(value_name = "REF", required = true)]
    images: Vec<String>,
    /// Print JSON, which is the default and the only format
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Inspected {
    references: Vec<Reference>,
    digest: Digest,
    id: Digest,
    created: Option<String>,
    /// When it was last started, loaded, pulled or named.
    used_at: String,
    author: Option<String>,
    os: String,
    architecture: String,
    /// Both again, with the variant, as an index has it.
    platform: Platform,
    config: Config,
    diff_ids: Vec<Digest>,
    manifest: Manifest,
    #[serde(flatten)]
    size: Size,
    /// Lowest first.
    layers: Vec<Layer>,
    /// Steps of its history; `image history` shows them.
    history_entries: usize,
    /// Why it cannot be removed now.
    in_use: Vec<Reason>,
    /// Where `image mount` has mounted it.
    mounted_at: Option<String>,
}

#[derive(Serialize)]
struct Layer {
    diff_id: Digest,
    /// Of the layer as it came.
    digest: Digest,
    media_type: String,
    blob_bytes: u64,
    /// Unpacked.
    bytes: u64,
    entries: u64,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let store = Store::open(paths)?;
    let sizes = Sizes::load(&store)?;
    let images = args
        .images
        .iter()
        .map(|text| inspect(paths, &store, &sizes, text))
        .collect::<anyhow::Result<Vec<Inspected>>>()?;
    let mut out = Out::stdout();
    out.json(&Images::new(&images))?;
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn inspect(paths: &Paths, store: &Store, sizes: &Sizes, text: &str) -> anyhow::Result<Inspected> {
    let (_, digest) = store.find(text)?;
    let documents = store.documents(&digest)?;
    let records = store.records()?;
    let names: Vec<&Record> = records.iter().filter(|r| r.digest == digest).collect();
    let used = names.iter().filter_map(|r| used::last_used(store, r)).max();
    let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
    let (manifest, config) = (documents.manifest, documents.config);
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
    let mounted = in_use.contains(&Reason::Mounted);
    let mounted = mounted.then(|| crate::image::mounts::target(paths, &digest));
    Ok(Inspected {
        references: names.iter().filter_map(|r| r.reference.clone()).collect(),
        digest,
        id: manifest.config.digest,
        used_at: Timestamp::try_from(used).unwrap_or_default().to_string(),
        platform: config.platform(),
        created: config.created,
        author: config.author,
        os: config.os,
        architecture: config.architecture,
        config: config.config,
        layers: layers.collect(),
        diff_ids: config.diff_ids.clone(),
        history_entries: config.history.len(),
        size: sizes.of(&digest),
        in_use: in_use.into_iter().collect(),
        mounted_at: mounted.map(|path| path.display().to_string()),
        manifest,
    })
}
