// SPDX-License-Identifier: Apache-2.0
//! Pushing an image: its blobs, several at a time, and last the manifest that names them.
//!
//! Everything goes out byte for byte, so the image has the same digest on the registry; that is
//! asked for at the end. A push that ends early leaves blobs there, and no image.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};

use super::manifest;
use super::size::total;
use super::users::Writable;
use super::{Digest, Reference};
use crate::registry::{Client, Pushed};

/// Blobs that are sent at once.
const PARALLEL: usize = 3;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether it was sent.
    pub pushed: Pushed,
}

/// What a push tells while it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There are so many blobs, of so many bytes.
    Total {
        /// Blobs, each counted once.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A blob is there.
    Sent(Sent),
}

/// Pushes the image with the manifest `digest` to `target`. `report` is called from several
/// threads, one at a time.
pub fn push(
    store: &Writable,
    client: &Client,
    digest: &Digest,
    target: &Reference,
    report: &mut (dyn FnMut(Event) + Send),
) -> anyhow::Result<Vec<Sent>> {
    let pushing = || format!("pushing to '{target}'");
    // Nobody removes what is being sent. A store that cannot be written has nobody who would.
    let change = store.change().ok();
    if let Some(change) = &change {
        change.use_image(digest).with_context(pushing)?;
    }
    let bytes = store.read_blob(digest).with_context(pushing)?;
    let documents = store.documents(digest).with_context(pushing)?;
    let mut blobs: Vec<(Digest, u64)> = Vec::new();
    let config = &documents.manifest.config;
    for descriptor in documents.manifest.layers.iter().chain([config]) {
        if !blobs.iter().any(|(known, _)| *known == descriptor.digest) {
            blobs.push((descriptor.digest, descriptor.size));
        }
    }
    note_places(store, client, digest, target, &blobs)?;
    report(Event::Total {
        blobs: blobs.len(),
        bytes: total(blobs.iter().map(|(_, size)| *size)),
    });
    let sent = send(store, client, target, &blobs, report).with_context(pushing)?;
    client
        .push_manifest(target, manifest::media_type(&bytes), &bytes)
        .with_context(pushing)?;
    let found = client.digest(target).with_context(pushing)?;
    ensure!(
        found == *digest,
        "pushing to '{target}': the registry has changed the image to {found}; it was {digest}"
    );
    Ok(sent)
}

/// Other names of the image on the same registry tell where its blobs are already.
fn note_places(
    store: &Writable,
    client: &Client,
    digest: &Digest,
    target: &Reference,
    blobs: &[(Digest, u64)],
) -> anyhow::Result<()> {
    for record in store.records()? {
        let Some(name) = record.reference.filter(|_| record.digest == *digest) else {
            continue;
        };
        if name.registry() == target.registry() && name.repository() != target.repository() {
            for (blob, _) in blobs {
                client.note_blob(&name, blob);
            }
        }
    }
    Ok(())
}

fn send(
    store: &Writable,
    client: &Client,
    target: &Reference,
    blobs: &[(Digest, u64)],
    report: &mut (dyn FnMut(Event) + Send),
) -> anyhow::Result<Vec<Sent>> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let report = Mutex::new(report);
    let work = || -> anyhow::Result<Vec<Sent>> {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let Some((digest, size)) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let pushed = client
                .push_blob(target, digest, &store.blob_path(digest))
                .inspect_err(|_| failed.store(true, Ordering::Relaxed))
                .with_context(|| format!("sending blob '{digest}'"))?;
            let sent = Sent {
                digest: *digest,
                size: *size,
                pushed,
            };
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            report(Event::Sent(sent));
            drop(report);
            done.push(sent);
        }
        Ok(done)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL.min(blobs.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut sent = Vec::new();
        for worker in workers {
            let done = worker.join();
            sent.extend(done.unwrap_or_else(|_| Err(anyhow!("sending a blob stopped halfway")))?);
        }
        Ok(sent)
    })
}
