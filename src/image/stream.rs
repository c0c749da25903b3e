// SPDX-License-Identifier: Apache-2.0
//! A layer's one way from its blob into a tree.
//!
//! Two threads, so that two processors work on one layer: the caller's reads, hashes and copies
//! the blob; the other decompresses, hashes and unpacks. A few buffers go round between them,
//! which bounds the memory; nothing is read twice.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use anyhow::{Context as _, anyhow, ensure};

use super::Digest;
use super::manifest::{self, Descriptor};
use crate::digest::Hashing;
use crate::storage::layer::{self, Unpacked};

/// Buffers between the threads, and the size of one.
const BUFFERS: usize = 4;
const BUFFER_BYTES: usize = 256 << 10;

/// A blob that was read to its end, and what came out of it.
#[derive(Debug)]
pub(super) struct Streamed {
    /// The blob's.
    digest: Digest,
    bytes: u64,
    pub(super) unpacked: Unpacked,
}

/// Copies `blob` to `copy` and unpacks it into the directory `tree`; `diff_id` is what must come
/// out. `progress` gets numbers of bytes of the blob.
pub(super) fn unpack(
    blob: impl Read,
    copy: File,
    tree: &Path,
    diff_id: Option<&Digest>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Streamed> {
    let (full_sender, full_receiver) = sync_channel(BUFFERS);
    let (empty_sender, empty_receiver) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        empty_sender.try_send(Vec::new()).ok();
    }
    thread::scope(|scope| {
        let unpacking = thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, || {
                let mut buffers = Buffers {
                    full: full_receiver,
                    empty: empty_sender,
                    current: Vec::new(),
                    at: 0,
                };
                let unpacked = layer::unpack(&mut buffers, tree, diff_id)?;
                // Decoders stop where their format ends; the blob's digest covers what is left.
                io::copy(&mut buffers, &mut io::sink())?;
                anyhow::Ok(unpacked)
            })
            .context("starting a thread")?;
        let mut tee = Tee {
            blob: Hashing::new(blob),
            copy,
            progress,
        };
        let read = tee.run(&full_sender, &empty_receiver);
        // The end of the blob, or its early end, for the other thread.
        drop((full_sender, empty_receiver));
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|_| Err(anyhow!("unpacking the layer stopped halfway")));
        // An error of the source is the cause of what the other thread makes of its early end.
        read?;
        let (digest, bytes, _) = tee.blob.finish();
        Ok(Streamed {
            digest,
            bytes,
            unpacked: unpacked?,
        })
    })
}

impl Streamed {
    /// Checks the blob against its descriptor, if there is one, and describes it.
    pub(super) fn describe(&self, expected: Option<&Descriptor>) -> anyhow::Result<Descriptor> {
        let compression = self.unpacked.compression;
        let Some(descriptor) = expected else {
            return Ok(Descriptor {
                media_type: manifest::layer_type(compression).to_owned(),
                digest: self.digest,
                size: self.bytes,
                platform: None,
                annotations: None,
            });
        };
        manifest::check_blob(descriptor, &self.digest, self.bytes)?;
        let said = manifest::layer_compression(&descriptor.media_type)?;
        ensure!(
            said.is_none_or(|said| said == compression),
            "its media type is '{}', but it is {compression}",
            descriptor.media_type.escape_debug()
        );
        Ok(descriptor.clone())
    }
}

/// The reading side.
struct Tee<'a, R> {
    blob: Hashing<R>,
    copy: File,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Tee<'_, R> {
    /// Reads to the end, or until the other side has failed, whose error counts then.
    fn run(&mut self, full: &SyncSender<Vec<u8>>, empty: &Receiver<Vec<u8>>) -> anyhow::Result<()> {
        while let Ok(mut buffer) = empty.recv() {
            buffer.resize(BUFFER_BYTES, 0);
            let n = self.fill(&mut buffer)?;
            if n == 0 {
                break;
            }
            buffer.truncate(n);
            self.copy
                .write_all(&buffer)
                .context("writing a blob to the store")?;
            if full.send(buffer).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Sources give what a packet holds; a buffer is worth handing over when it is full.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(room) = buffer.get_mut(at..).filter(|room| !room.is_empty()) {
            match self.blob.read(room) {
                Ok(0) => break,
                Ok(n) => {
                    at += n;
                    (self.progress)(n as u64);
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(at)
    }
}

/// The unpacking side's reader.
struct Buffers {
    full: Receiver<Vec<u8>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Buffers {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() {
            let Ok(next) = self.full.recv() else {
                return Ok(0);
            };
            let used = std::mem::replace(&mut self.current, next);
            // The reader has all it needs when it does not take them back any more.
            self.empty.try_send(used).ok();
            self.at = 0;
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
        let n = rest.len().min(out.len());
        let (from, to) = (rest.get(..n), out.get_mut(..n));
        if let (Some(from), Some(to)) = (from, to) {
            to.copy_from_slice(from);
        }
        self.at += n;
        Ok(n)
    }
}
