// SPDX-License-Identifier: Apache-2.0
//! Bringing an image's layers: which are missing, who downloads them, and how many at once.
//!
//! Every layer is one stream from the registry into a tree. What several pulls want is downloaded
//! by one of them; `flight` has the rule that keeps them from waiting in a circle.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};

use super::change::{AddedLayer, Change, Expected};
use super::damage::sift;
use super::event::{Event, Report};
use super::flight::{self, Part};
use super::manifest::{self, Descriptor};
use super::size::total;
use super::{Digest, Reference};
use crate::registry::Client;
use crate::storage::extract;
use crate::sys::dir::Dir;

/// Layers that are downloaded at once.
const PARALLEL: usize = 3;

/// What an unpacked layer takes at the least, for each byte of a compressed one. Programs come to
/// two to three times; too low a number only means that the pull ends later.
pub(super) const UNPACKED_FACTOR: u64 = 2;

/// A layer that an image needs: its blob and the diff ID that its config says.
pub(super) type Wanted = (Descriptor, Digest);

/// One pull's layers.
pub(super) struct Fetch<'a> {
    change: &'a Change<'a>,
    client: &'a Client,
    /// Where blobs come from.
    reference: &'a Reference,
    report: Report<'a>,
    downloaded: AtomicU64,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(
        change: &'a Change<'a>,
        client: &'a Client,
        reference: &'a Reference,
        report: Report<'a>,
    ) -> Self {
        Self {
            change,
            client,
            reference,
            report,
            downloaded: AtomicU64::new(0),
        }
    }

    /// Brings what is missing, and publishes it; returns how many bytes were downloaded.
    pub(super) fn bring(&self, mut layers: Vec<Wanted>) -> anyhow::Result<u64> {
        let mut seen = BTreeSet::new();
        layers.retain(|(descriptor, diff_id)| seen.insert((descriptor.digest, *diff_id)));
        let all = layers.len();
        let mut missing = self.missing(layers)?;
        (self.report)(Event::Plan {
            layers: missing.len(),
            present: all - missing.len(),
            bytes: total(missing.iter().map(|(layer, _)| layer.size)),
        });
        self.check_space(&missing)?;
        while !missing.is_empty() {
            let (mut ours, mut others, mut flights) = (Vec::new(), Vec::new(), Vec::new());
            for wanted in missing {
                match flight::try_begin(self.change.store(), Part::Layer, &wanted.0.digest)? {
                    Some(flight) => {
                        flights.push(flight);
                        ours.push(wanted);
                    }
                    None => others.push(wanted),
                }
            }
            // Whoever had one until just now may have brought it.
            let ours = self.missing(ours)?;
            if ours.is_empty() {
                drop(flights);
                if let Some((descriptor, _)) = others.first() {
                    let store = self.change.store();
                    flight::wait(store, Part::Layer, &descriptor.digest, self.report)?;
                }
            } else {
                self.download(ours)?;
                (self.report)(Event::Flushing);
                self.change.publish()?;
            }
            missing = self.missing(others)?;
        }
        Ok(self.downloaded.load(Ordering::Relaxed))
    }

    fn missing(&self, layers: Vec<Wanted>) -> anyhow::Result<Vec<Wanted>> {
        let mut missing = Vec::new();
        for (descriptor, diff_id) in layers {
            if !self.change.has_layer(&descriptor, &diff_id)? {
                missing.push((descriptor, diff_id));
            }
        }
        Ok(missing)
    }

    /// Says so before anything is downloaded when there surely is no room; unpacking looks again
    /// and again while it works.
    fn check_space(&self, missing: &[Wanted]) -> anyhow::Result<()> {
        let need = missing.iter().fold(0_u64, |need, (layer, _)| {
            let unpacked = layer.size.saturating_mul(UNPACKED_FACTOR);
            need.saturating_add(layer.size).saturating_add(unpacked)
        });
        let path = self.change.store().layers_dir();
        let space = Dir::open(path)?.space()?;
        let room = space.bytes.saturating_sub(extract::floor(&space));
        ensure!(
            need == 0 || room >= need,
            "the image needs about {} MiB on the file system of '{}', where {} MiB can be used; make \
             room, for example with 'wharf image rm'",
            (need >> 20) + 1,
            path.display(),
            room >> 20
        );
        Ok(())
    }

    /// Downloads layers, a few at a time, the largest first: they take longest.
    fn download(&self, mut layers: Vec<Wanted>) -> anyhow::Result<()> {
        layers.sort_by_key(|(descriptor, _)| std::cmp::Reverse(descriptor.size));
        let workers = layers.len().min(PARALLEL);
        let queue = Mutex::new(VecDeque::from(layers));
        let failed = AtomicBool::new(false);
        let work = || -> anyhow::Result<()> {
            while !failed.load(Ordering::Relaxed) {
                let next = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                let Some((descriptor, diff_id)) = next else {
                    break;
                };
                self.bring_one(&descriptor, diff_id, &failed)
                    .with_context(|| format!("downloading layer '{}'", descriptor.digest))
                    .inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            let started: Vec<_> = (0..workers)
                .map(|_| {
                    thread::Builder::new()
                        .name("download".to_owned())
                        .spawn_scoped(scope, work)
                })
                .collect();
            let mut first = None;
            for worker in started {
                let ended = match worker {
                    Ok(worker) => worker
                        .join()
                        .unwrap_or_else(|_| Err(anyhow!("a download stopped halfway"))),
                    Err(err) => Err(err).context("starting a thread"),
                };
                // One layer's error ends the others' downloads, which is no news.
                if let Err(err) = ended
                    && (first.is_none() || first.as_ref().is_some_and(is_stopped))
                {
                    first = Some(err);
                }
            }
            first.map_or(Ok(()), Err)
        })
    }

    fn bring_one(
        &self,
        descriptor: &Descriptor,
        diff_id: Digest,
        failed: &AtomicBool,
    ) -> anyhow::Result<()> {
        let digest = descriptor.digest;
        let expected = Expected {
            descriptor: Some(descriptor.clone()),
            diff_id: Some(diff_id),
        };
        (self.report)(Event::Layer {
            digest,
            bytes: descriptor.size,
        });
        let progress = |bytes| (self.report)(Event::Progress { digest, bytes });
        let added = match self.unpack_stored(descriptor, &expected)? {
            Some(added) => added,
            None => {
                let blob = self.client.blob(self.reference, &digest, descriptor.size)?;
                let blob = Stoppable { blob, failed };
                let added = self.change.add_layer(blob, &expected, &progress)?;
                self.downloaded
                    .fetch_add(descriptor.size, Ordering::Relaxed);
                added
            }
        };
        for warning in added.notes.warnings(&diff_id) {
            (self.report)(Event::Warning(warning));
        }
        (self.report)(Event::Done(digest));
        Ok(())
    }

    /// A layer whose tree is gone or damaged is unpacked from its blob, if that is good.
    fn unpack_stored(
        &self,
        descriptor: &Descriptor,
        expected: &Expected,
    ) -> anyhow::Result<Option<AddedLayer>> {
        if !self.change.has_blob(&descriptor.digest, descriptor.size)? {
            return Ok(None);
        }
        let path = self.change.store().blob_path(&descriptor.digest);
        // Nothing of it is downloaded.
        let alive = |_| (self.report)(Event::Alive);
        let added = File::open(&path)
            .with_context(|| format!("opening '{}'", path.display()))
            .and_then(|stored| self.change.add_layer(stored, expected, &alive));
        sift(added)
    }
}

/// The verified bytes of a small blob.
pub(super) fn document(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    client
        .blob(reference, &descriptor.digest, descriptor.size)?
        .take(manifest::DOCUMENT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    manifest::check_blob(descriptor, &Digest::of(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}

/// What the other downloads end with when one has failed.
#[derive(Debug, thiserror::Error)]
#[error("stopped, because another layer failed")]
struct Stopped;

fn is_stopped(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        let read = cause.downcast_ref::<io::Error>();
        read.and_then(io::Error::get_ref)
            .is_some_and(|inner| inner.is::<Stopped>())
    })
}

/// A download that ends when another one has failed.
struct Stoppable<'a, R> {
    blob: R,
    failed: &'a AtomicBool,
}

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(io::Error::other(Stopped));
        }
        self.blob.read(buffer)
    }
}
