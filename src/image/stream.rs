// SPDX-License-Identifier: Apache-2.0
//! A layer's one way from its blob into a tree.
//!
//! Two threads, so that two processors work on one layer: the caller's reads, hashes and copies
//! the blob, decompresses it and hashes again; the other unpacks. A few buffers go round between
//! them, which bounds the memory; nothing is read twice.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};

use super::Digest;
use super::manifest::{self, Descriptor};
use crate::digest::Hashing;
use crate::storage::decode::{self, Compression};
use crate::storage::extract::Notes;
use crate::storage::layer::{self, LayerRecord};
use crate::sys;

/// Buffers between the threads, and the size of one.
const BUFFERS: usize = 4;
const BUFFER_BYTES: usize = 256 << 10;

/// Time between two signs of life.
const TICK: Duration = Duration::from_millis(50);

/// A blob that was read to its end, and what came out of it.
#[derive(Debug)]
pub(super) struct Streamed {
    source: Source,
    pub(super) record: LayerRecord,
    pub(super) notes: Notes,
}

/// What the reading side knows at the end.
#[derive(Debug)]
struct Source {
    /// The blob's.
    digest: Digest,
    bytes: u64,
    compression: Compression,
    /// The plain archive's.
    diff_id: Digest,
}

/// Copies `blob` to `copy` and unpacks it into the directory `tree`; `diff_id` is what must come
/// out. `progress` gets numbers of bytes of the blob, and 0 while work goes on that reads none.
pub(super) fn unpack(
    blob: impl Read,
    copy: File,
    tree: &Path,
    diff_id: Option<&Digest>,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Streamed> {
    let (full, full_receiver) = sync_channel(BUFFERS);
    let (empty_sender, empty) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        empty_sender.try_send(Vec::new()).ok();
    }
    let tee = Tee {
        blob: Hashing::new(blob),
        copy,
        progress,
        failed: false,
    };
    let (done, ended) = channel::<()>();
    let (source, unpacked) = thread::scope(|scope| {
        let unpacking = thread::Builder::new()
            .name("unpack".to_owned())
            .spawn_scoped(scope, move || {
                let plain = Buffers {
                    full: full_receiver,
                    empty: empty_sender,
                    current: Vec::new(),
                    at: 0,
                };
                let _done = done;
                layer::unpack(plain, tree)
            })
            .context("starting a thread")?;
        let source = tee.run(&Pipe { full, empty });
        // The walk over what was unpacked can take long, and nothing is read meanwhile.
        let mut before = None;
        loop {
            let now = Some(layer::facts_bytes(tree));
            if now != before {
                before = now;
                progress(0);
            }
            if ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        let unpacked = unpacking
            .join()
            .unwrap_or_else(|_| Err(anyhow!("unpacking the layer stopped halfway")));
        anyhow::Ok((source, unpacked))
    })?;
    // An error of the source is the cause of what the other thread makes of its early end.
    let (source, unpacked) = match (source?, unpacked) {
        (Some(source), unpacked) => (source, unpacked?),
        (None, Err(err)) => return Err(err),
        (None, Ok(_)) => return Err(anyhow!("unpacking the layer stopped halfway")),
    };
    if let Some(expected) = diff_id {
        ensure!(
            source.diff_id == *expected,
            "the layer's content is {}, but the image's config says {expected}",
            source.diff_id
        );
    }
    Ok(Streamed {
        record: layer::record(tree, &source.diff_id, &unpacked)?,
        source,
        notes: unpacked.notes,
    })
}

impl Streamed {
    /// Checks the blob against its descriptor, if there is one, and describes it.
    pub(super) fn describe(&self, expected: Option<&Descriptor>) -> anyhow::Result<Descriptor> {
        let Source {
            digest,
            bytes,
            compression,
            ..
        } = self.source;
        let Some(descriptor) = expected else {
            return Ok(Descriptor {
                media_type: manifest::layer_type(compression).to_owned(),
                digest,
                size: bytes,
                platform: None,
                annotations: None,
            });
        };
        manifest::check_blob(descriptor, &digest, bytes)?;
        let said = manifest::layer_compression(&descriptor.media_type)?;
        ensure!(
            said.is_none_or(|said| said == compression),
            "its media type is '{}', but it is {compression}",
            descriptor.media_type.escape_debug()
        );
        Ok(descriptor.clone())
    }
}

/// The way to the unpacking side, and back for the buffers.
struct Pipe {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
}

/// The blob, copied and hashed as it is read.
struct Tee<'a, R> {
    blob: Hashing<R>,
    copy: File,
    progress: &'a dyn Fn(u64),
    /// Whether reading or copying has failed, so that an error is not the decoder's.
    failed: bool,
}

impl<R: Read> Tee<'_, R> {
    /// Reads to the end; none when the other side has failed, whose error counts then.
    fn run(mut self, pipe: &Pipe) -> anyhow::Result<Option<Source>> {
        let decoded = self.decode(pipe);
        let (compression, diff_id) = match decoded {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Ok(None),
            Err(err) if self.failed => return Err(err.into()),
            Err(err) => return Err(err).context("decompressing the layer"),
        };
        // Decoders stop where their format ends; the blob's digest covers what is left.
        io::copy(&mut self, &mut io::sink())?;
        let (digest, bytes, _) = self.blob.finish();
        Ok(Some(Source {
            digest,
            bytes,
            compression,
            diff_id: diff_id.unwrap_or(digest),
        }))
    }

    /// Hands over the plain bytes; gives their digest when it is not the blob's.
    fn decode(&mut self, pipe: &Pipe) -> io::Result<Option<(Compression, Option<Digest>)>> {
        let mut decoder = decode::decode(self)?;
        let compression = decoder.compression();
        let mut hash = Hashing::new(io::sink());
        while let Ok(mut buffer) = pipe.empty.recv() {
            buffer.resize(BUFFER_BYTES, 0);
            let n = fill(&mut decoder, &mut buffer)?;
            buffer.truncate(n);
            if compression != Compression::Plain {
                hash.write_all(&buffer)?;
            }
            if n == 0 {
                let diff_id = (compression != Compression::Plain).then(|| hash.finish().0);
                return Ok(Some((compression, diff_id)));
            }
            if pipe.full.send(buffer).is_err() {
                break;
            }
        }
        Ok(None)
    }
}

/// Decoders give what they have; a buffer is worth handing over when it is full.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while let Some(room) = buffer.get_mut(at..).filter(|room| !room.is_empty()) {
        match reader.read(room) {
            Ok(0) => break,
            Ok(n) => at += n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(at)
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer).and_then(|n| {
            let copied = self.copy.write_all(buffer.get(..n).unwrap_or_default());
            copied.map_err(|err| {
                io::Error::new(
                    err.kind(),
                    sys::Error::new("writing a blob to the store", err),
                )
            })?;
            if n > 0 {
                (self.progress)(n as u64);
            }
            Ok(n)
        });
        let interrupted = |err: &io::Error| err.kind() == io::ErrorKind::Interrupted;
        self.failed |= read.as_ref().is_err_and(|err| !interrupted(err));
        read
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
