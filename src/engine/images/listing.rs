// SPDX-License-Identifier: Apache-2.0
//! What is in the store, and what it takes up.

use std::time::SystemTime;

use crate::digest::Digest;
use crate::engine::images::filter::Filter;
use crate::image::remove::{self, Named, Unreadable};
use crate::image::size::{Size, Sizes};
use crate::image::store::{Record, Store};
use crate::image::used;
use crate::paths::Paths;
use crate::reference::Reference;
use crate::reference::pattern::Pattern;
use crate::storage::layer;

/// All that is listed.
#[derive(Debug)]
pub struct List {
    /// A name each; an image of two names is there twice.
    pub images: Vec<Listed>,
    /// References whose files cannot be read.
    pub damaged: Vec<Unreadable>,
    /// How many images there are.
    pub count: usize,
    /// What they take up, everything that is shared counted once.
    pub bytes: u64,
}

/// One name of an image.
#[derive(Debug)]
pub struct Listed {
    /// The name.
    pub reference: Option<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest; none when the image is damaged.
    pub id: Option<Digest>,
    /// When it was built.
    pub created: Option<String>,
    /// When it was last started, loaded, pulled or named.
    pub used: SystemTime,
    /// How many layers it has.
    pub layers: usize,
    /// What it takes up.
    pub size: Size,
    /// Why the image cannot be run.
    pub problem: Option<String>,
}

/// Lists the images that meet all filters and, if there are patterns, have a name of such a form.
pub fn list(paths: &Paths, filters: &[Filter], patterns: &[Pattern]) -> anyhow::Result<List> {
    let store = Store::open(paths)?;
    let sizes = Sizes::load(&store)?;
    let images: Vec<Named> = remove::oldest_first(&store)?
        .into_iter()
        .filter(|image| filters.iter().all(|filter| filter.admits(&store, image)))
        .collect();
    let admitted = |digest: &Digest| images.iter().any(|image| image.digest == *digest);
    let is_meant = |reference: Option<&Reference>| {
        patterns.is_empty()
            || reference.is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
    };
    let listed: Vec<Listed> = store
        .records()?
        .into_iter()
        .filter(|record| admitted(&record.digest) && is_meant(record.reference.as_ref()))
        .map(|record| describe(&store, &sizes, record))
        .collect();
    let damaged = match filters.is_empty() && patterns.is_empty() {
        true => remove::unreadable(&store)?,
        // Nobody knows what a filter would say of them.
        false => Vec::new(),
    };
    let digests = listed.iter().map(|image| image.digest).collect();
    let (count, bytes) = sizes.of_all(&digests);
    Ok(List {
        images: listed,
        damaged,
        count,
        bytes,
    })
}

fn describe(store: &Store, sizes: &Sizes, record: Record) -> Listed {
    let used = used::last_used(store, &record).unwrap_or(SystemTime::UNIX_EPOCH);
    let digest = record.digest;
    let mut listed = Listed {
        reference: record.reference,
        digest,
        id: None,
        created: None,
        used,
        layers: 0,
        size: sizes.of(&digest),
        problem: None,
    };
    let mut fill = || -> anyhow::Result<()> {
        let documents = store.documents(&digest)?;
        listed.id = Some(documents.manifest.config.digest);
        listed.created = documents.config.created;
        listed.layers = documents.config.diff_ids.len();
        for diff_id in &documents.config.diff_ids {
            layer::load(store.layers_dir(), diff_id)?;
        }
        Ok(())
    };
    listed.problem = fill().err().map(|err| format!("{err:#}"));
    listed
}
