// SPDX-License-Identifier: Apache-2.0
//! Repairing what a check found: only what is damaged is made or fetched again.
//!
//! A tree is unpacked from its blob when that is sound, without any network. Documents and blobs
//! come from the registries that the image's names name, by digest, so that the same image is
//! there afterwards or none. What cannot be repaired stays as it is and is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;

use anyhow::{Context as _, anyhow, bail, ensure};

use super::change::{Change, Expected};
use super::check::{Finding, Place, Report};
use super::config;
use super::damage::sift;
use super::manifest::{self, DOCUMENT_BYTES_MAX, Descriptor, Document};
use super::platform;
use super::record::file_name;
use super::store::{Record, Store};
use super::users::Writable;
use super::{Digest, Reference};
use crate::platform::Platform;
use crate::registry::Client;
use crate::storage::layer;
use crate::sys::dir::Dir;

/// A finding after the repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was found.
    pub finding: Finding,
    /// Why it is still there; none when it is repaired.
    pub left: Option<String>,
}

/// Repairs what is in `report`. Layers of images that are in use are not touched, because their
/// files would change under containers. `tell` gets a line for each step.
pub fn repair(
    store: &Writable,
    client: &Client,
    report: &Report,
    tell: &mut dyn FnMut(&str),
) -> anyhow::Result<Vec<Outcome>> {
    let (damaged, unreadable): (Vec<_>, Vec<_>) = report.findings.iter().partition(|f| f.is_damage);
    let unreadable = unreadable.iter().map(|finding| {
        let why = format!(
            "the machine cannot read it, which says nothing of its content ({}); repair again when \
             that is over, or if the disk is broken, remove and load the image again",
            finding.problem
        );
        (finding.place.clone(), why)
    });
    let mut work = Work {
        store,
        client,
        change: store.change()?,
        places: damaged.iter().map(|f| f.place.clone()).collect(),
        troubles: unreadable.collect(),
        tell,
    };
    work.references();
    for record in store.records()? {
        work.image(&record);
    }
    let troubles = work.finish();
    // Damage that no image needs is swept, now that nothing hides what is needed.
    store.write()?.collect()?;
    let outcomes = report.findings.iter().map(|finding| Outcome {
        left: left_of(store, finding, &troubles),
        finding: finding.clone(),
    });
    Ok(outcomes.collect())
}

fn left_of(store: &Store, finding: &Finding, troubles: &BTreeMap<Place, String>) -> Option<String> {
    let problem = finding.place.problem(store)?;
    let gone = match &finding.place {
        Place::Reference(name) => matches!(store.load_record(name), Ok(None)),
        Place::Blob(digest) => {
            let unneeded = store
                .used()
                .is_ok_and(|used| !used.blobs.contains(&digest.hex()));
            unneeded && !store.blob_path(digest).exists()
        }
        Place::Layer(diff_id) => {
            let unneeded = store
                .used()
                .is_ok_and(|used| !used.layers.contains(&diff_id.hex()));
            unneeded
                && layer::dir(store.layers_dir(), diff_id)
                    .symlink_metadata()
                    .is_err()
        }
    };
    (!gone).then(|| troubles.get(&finding.place).cloned().unwrap_or(problem))
}

struct Work<'a> {
    store: &'a Writable,
    client: &'a Client,
    change: Change<'a>,
    /// What was found.
    places: BTreeSet<Place>,
    /// Why something could not be repaired.
    troubles: BTreeMap<Place, String>,
    tell: &'a mut dyn FnMut(&str),
}

impl Work<'_> {
    fn finish(self) -> BTreeMap<Place, String> {
        self.troubles
    }

    /// References that cannot be read: when the registry still has under this name an image that is
    /// in the store, it was that one.
    fn references(&mut self) {
        for place in self.places.clone() {
            let Place::Reference(name) = &place else {
                continue;
            };
            let record = self.store.load_record(name).ok().flatten();
            let is_read = record.is_some_and(|record| {
                file_name(record.reference.as_ref(), Some(&record.digest)) == *name
            });
            if !is_read && let Err(err) = self.reference(name) {
                self.troubles.insert(place, format!("{err:#}"));
            }
        }
    }

    /// Lets the reference lead to what its registry has under the name, if that is in the store.
    fn reference(&mut self, name: &str) -> anyhow::Result<()> {
        let decoded = name.replace("%2f", "/").replace("%25", "%");
        let reference: Reference = decoded
            .parse()
            .ok()
            .filter(|reference| file_name(Some(reference), None) == name)
            .context("nothing tells which image it was; remove it and load the image again")?;
        self.client.permit(&reference)?;
        (self.tell)(&format!("asking for {reference}"));
        let fetched = self.client.manifest(&reference)?;
        let (offered, index) = match manifest::parse(&fetched.bytes)? {
            Document::Manifest(_) => (vec![fetched.digest], None),
            Document::Index(entries) => {
                // This machine's before those of others, which may be stored too.
                let ours = platform::select(&entries, &Platform::local()).ok();
                let all = ours.into_iter().chain(&entries);
                let offered = all.map(|entry| entry.digest).collect();
                (offered, Some(fetched.digest))
            }
        };
        let stored = |digest: &&Digest| self.store.read_blob(digest).is_ok();
        let digest = *offered.iter().find(stored).context(
            "the registry has another image under this name now; remove it with 'wharf image rm' \
             and pull or load it again",
        )?;
        // No reference leads to it at this moment, so it has to be kept from being swept.
        self.change.use_image(&digest)?;
        let before = self.store.load_record(name).ok().flatten();
        self.change
            .commit_pulled(&reference, &digest, index.as_ref())?;
        // Where a damaged digest led to is no image that lost its name.
        if let Some(before) = before.filter(|before| before.digest != digest) {
            self.store.moment()?.forget_unnamed(&before.digest)?;
        }
        Ok(())
    }

    /// Mends everything of an image that can be mended.
    fn image(&mut self, record: &Record) {
        let file = file_name(record.reference.as_ref(), Some(&record.digest));
        let mended = self.documents(record).or_else(|err| {
            // The digest in the reference can be what is damaged.
            let is_gone = !self.store.blob_path(&record.digest).exists();
            match is_gone && self.reference(&file).is_ok() {
                true => Ok(()),
                false => Err(err),
            }
        });
        if let Err(err) = mended {
            let text = format!("{err:#}");
            for place in [Place::Reference(file), Place::Blob(record.digest)] {
                self.troubles.entry(place).or_insert_with(|| text.clone());
            }
            return;
        }
        let Ok(documents) = self.store.documents(&record.digest) else {
            return;
        };
        let layers = documents.manifest.layers.iter();
        for (descriptor, diff_id) in layers.zip(&documents.config.diff_ids) {
            if let Err(err) = self.layer(record, descriptor, diff_id) {
                let text = format!("{err:#}");
                for place in [Place::Blob(descriptor.digest), Place::Layer(*diff_id)] {
                    self.troubles.insert(place, text.clone());
                }
            }
        }
    }

    /// Sees to it that manifest and config are there.
    fn documents(&mut self, record: &Record) -> anyhow::Result<()> {
        let bytes = match sift(self.store.read_blob(&record.digest))? {
            Some(bytes) => bytes,
            None => {
                let bytes = self.fetch(record, &|client, name| {
                    let exact: Reference = format!(
                        "{}/{}@{}",
                        name.registry(),
                        name.repository(),
                        record.digest
                    )
                    .parse()?;
                    Ok(client.manifest(&exact)?.bytes)
                })?;
                self.add_document(&record.digest, &bytes)?;
                bytes
            }
        };
        let Document::Manifest(manifest) = manifest::parse(&bytes)? else {
            bail!("the reference leads to an index, not to an image");
        };
        let wanted = &manifest.config;
        if sift(self.store.read_blob(&wanted.digest))?.is_none() {
            ensure!(
                wanted.size <= DOCUMENT_BYTES_MAX,
                "its config has {} bytes; at most {DOCUMENT_BYTES_MAX} are accepted",
                wanted.size
            );
            let bytes = self.fetch(record, &|client, name| {
                let mut bytes = Vec::new();
                client
                    .blob(name, &wanted.digest, wanted.size)?
                    .take(DOCUMENT_BYTES_MAX)
                    .read_to_end(&mut bytes)?;
                Ok(bytes)
            })?;
            config::parse(&bytes)?;
            self.add_document(&wanted.digest, &bytes)?;
        }
        Ok(())
    }

    fn add_document(&mut self, digest: &Digest, bytes: &[u8]) -> anyhow::Result<()> {
        let found = Digest::of(bytes);
        ensure!(found == *digest, "the registry sent {found}, not {digest}");
        self.change.add_document(bytes)?;
        self.change.publish()
    }

    /// Unpacks the layer again, from its blob if that is sound.
    fn layer(
        &mut self,
        record: &Record,
        descriptor: &Descriptor,
        diff_id: &Digest,
    ) -> anyhow::Result<()> {
        let digest = descriptor.digest;
        let blob_is_bad = self.places.contains(&Place::Blob(digest));
        let tree_is_bad = self.places.contains(&Place::Layer(*diff_id));
        if !blob_is_bad && !tree_is_bad {
            return Ok(());
        }
        if tree_is_bad {
            // It is asked again when its time has come; this saves the work.
            self.store.require_unused(diff_id)?;
        }
        let expected = Expected {
            descriptor: Some(descriptor.clone()),
            diff_id: Some(*diff_id),
        };
        if blob_is_bad {
            (self.tell)(&format!("fetching blob {}", digest.short()));
            let change = &self.change;
            self.fetch(record, &|client, name| {
                let blob = client.blob(name, &digest, descriptor.size)?;
                change.add_layer(blob, &expected, &|_| {}).map(drop)
            })?;
        } else {
            (self.tell)(&format!("unpacking layer {}", diff_id.short()));
            let blobs = Dir::open(&self.store.blobs_dir())?;
            let blob: File = blobs.open_file(digest.hex().as_ref())?;
            self.change.add_layer(blob, &expected, &|_| {})?;
        }
        if tree_is_bad {
            self.change.replace_layer(diff_id);
        }
        self.change.publish()?;
        // Other images with the layer find it whole.
        self.places.remove(&Place::Blob(digest));
        self.places.remove(&Place::Layer(*diff_id));
        Ok(())
    }

    /// Asks the registries of the image's names, one after the other.
    fn fetch<T>(
        &self,
        record: &Record,
        ask: &dyn Fn(&Client, &Reference) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let others = self.store.records()?.into_iter();
        let names = others
            .filter(|other| other.digest == record.digest)
            .filter_map(|other| other.reference);
        let mut last = None;
        for name in names {
            let permitted = self.client.permit(&name).map_err(anyhow::Error::from);
            match permitted.and_then(|()| ask(self.client, &name)) {
                Ok(value) => return Ok(value),
                Err(err) => last = Some(err),
            }
        }
        Err(last.unwrap_or_else(|| {
            anyhow!("the image has no name that tells which registry to ask; load it again")
        }))
    }
}
