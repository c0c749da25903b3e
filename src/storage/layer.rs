// SPDX-License-Identifier: Apache-2.0
//! Unpacked layers by diff ID: `layers/HEX/{fs/,facts,layer.json}`.
//!
//! A layer is unpacked in a staging directory and moved to its name by whoever commits, after a
//! flush; so a directory with a diff ID for a name is always whole. `docs/storage.md` has the
//! order. Nothing here knows manifests or references.

use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::extract::{Extractor, Notes};
use super::facts::{self, Known, Totals};
use super::member::{Members, printable};
use crate::digest::{Digest, Hashing};
use crate::sys;
use crate::sys::dir::{self, Dir};

/// Version of `layer.json` and of the facts' lines.
const VERSION: u32 = 1;

/// Largest `layer.json` that is read.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// What is known about an unpacked layer: `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerRecord {
    version: u32,
    /// The digest of the layer's plain tar.
    pub diff_id: Digest,
    /// Entries of the tree, the root included.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Digest of the file `facts`.
    facts: Digest,
    /// Whether the layer's root hides all lower layers.
    pub opaque: bool,
}

impl LayerRecord {
    /// Digest of the file `facts`, which says what the tree must look like.
    pub(super) fn facts(&self) -> &Digest {
        &self.facts
    }
}

/// A tree that was unpacked into a staging directory, before its diff ID was compared.
#[derive(Debug)]
pub struct Tree {
    totals: Totals,
    facts: Digest,
    opaque: bool,
    /// What happened, for warnings.
    pub notes: Notes,
}

/// The directory of the layer `diff_id` below `layers`.
pub fn dir(layers: &Path, diff_id: &Digest) -> PathBuf {
    layers.join(diff_id.hex())
}

/// The tree of the layer `diff_id` below `layers`: a lower directory of an overlay.
pub fn tree(layers: &Path, diff_id: &Digest) -> PathBuf {
    dir(layers, diff_id).join("fs")
}

/// Unpacks the plain archive that `reader` gives into the new directory `staging`. It is read to
/// its end, behind its end mark too. In the walk that follows [`facts_bytes`] grows.
pub fn unpack(reader: impl Read, staging: &Path) -> anyhow::Result<Tree> {
    let fs = staging.join("fs");
    sys::fs::ensure_dir(&fs, 0o700)?;
    let mut members = Members::new(reader);
    let mut extractor = Extractor::new(&fs, staging)?;
    while let Some(member) = members.read_next()? {
        extractor.write(&member, &mut members)?;
    }
    members.drain()?;
    let (known, notes) = extractor.finish()?;
    let (facts, totals) = write_facts(&fs, &staging.join("facts"), &known)?;
    Ok(Tree {
        totals,
        facts,
        opaque: is_opaque(&Dir::open(&fs)?)?,
        notes,
    })
}

/// Writes down what is in `staging`: with its `layer.json` it is a layer.
pub fn record(staging: &Path, diff_id: &Digest, tree: &Tree) -> anyhow::Result<LayerRecord> {
    let record = LayerRecord {
        version: VERSION,
        diff_id: *diff_id,
        entries: tree.totals.entries,
        bytes: tree.totals.bytes,
        facts: tree.facts,
        opaque: tree.opaque,
    };
    let json = serde_json::to_vec(&record)?;
    // The whole staging directory is flushed before it becomes visible.
    let durability = sys::fs::Durability::Memory;
    sys::fs::write_atomic(&staging.join("layer.json"), &json, 0o600, durability)?;
    Ok(record)
}

fn is_opaque(root: &Dir) -> anyhow::Result<bool> {
    Ok(dir::xattr(root, super::names::OPAQUE_XATTR.as_ref())?.is_some())
}

fn write_facts(fs: &Path, path: &Path, known: &Known) -> anyhow::Result<(Digest, Totals)> {
    let parent = Dir::open(path.parent().unwrap_or(Path::new(".")))?;
    let file = parent.make_file(path.file_name().unwrap_or_default())?;
    let mut out = Hashing::new(BufWriter::with_capacity(64 << 10, file));
    let totals = facts::write(fs, &mut out, known)?;
    out.flush()?;
    Ok((out.finish().0, totals))
}

/// How far the facts of what was unpacked into `staging` are written, to see that work goes on in
/// which nothing is read from the archive any more; 0 before.
pub fn facts_bytes(staging: &Path) -> u64 {
    std::fs::symlink_metadata(staging.join("facts")).map_or(0, |found| found.len())
}

/// The record of the layer `diff_id`, if it is there and looks whole; its content is not read.
pub fn load(layers: &Path, diff_id: &Digest) -> anyhow::Result<LayerRecord> {
    let dir = dir(layers, diff_id);
    let again = "remove and load the image again";
    let read = || -> anyhow::Result<LayerRecord> {
        let bytes = sys::fs::read_limited(&dir.join("layer.json"), RECORD_BYTES_MAX)?;
        let record: LayerRecord = serde_json::from_slice(&bytes)
            .with_context(|| format!("'layer.json' is damaged; {again}"))?;
        ensure!(
            record.version == VERSION,
            "'layer.json' has version {}, this wharf knows {VERSION}; {again}",
            record.version
        );
        ensure!(
            record.diff_id == *diff_id,
            "'layer.json' belongs to {}; {again}",
            record.diff_id
        );
        let tree = std::fs::symlink_metadata(dir.join("fs"))
            .with_context(|| format!("its tree cannot be opened; {again}"))?;
        ensure!(tree.is_dir(), "its tree is no directory; {again}");
        Ok(record)
    };
    read().with_context(|| format!("reading layer '{diff_id}'"))
}

/// Reads every file of the layer and says what is not as it was when it was unpacked, and what is
/// absent, damaged so that it cannot be compared, or cannot be read; at most a few findings for a
/// layer.
pub fn check(layers: &Path, diff_id: &Digest) -> Vec<anyhow::Error> {
    let mut findings = Vec::new();
    if let Err(err) = compare(layers, diff_id, &mut findings) {
        findings.push(err);
    }
    findings
}

fn compare(
    layers: &Path,
    diff_id: &Digest,
    findings: &mut Vec<anyhow::Error>,
) -> anyhow::Result<()> {
    let record = load(layers, diff_id)?;
    let dir = dir(layers, diff_id);
    let mut names = sys::fs::list_dir(&dir)?;
    names.retain(|name| !["facts", "fs", "layer.json"].iter().any(|own| name == own));
    findings.extend(names.iter().map(|name| {
        let name = printable(name.as_encoded_bytes());
        anyhow!("unexpected file '{name}' beside the layer")
    }));
    let stored = Dir::open(&dir)?.open_file("facts".as_ref())?;
    let mut compare = Compare::new(Hashing::new(stored));
    let totals = facts::write(&dir.join("fs"), &mut compare, &Known::default())?;
    let digest = compare.finish(findings)?;
    if digest != record.facts {
        findings.push(anyhow!("the file 'facts' is damaged"));
    }
    let opaque = is_opaque(&Dir::open(&dir.join("fs"))?)?;
    let (entries, bytes) = (totals.entries, totals.bytes);
    if (entries, bytes, opaque) != (record.entries, record.bytes, record.opaque) {
        findings.push(anyhow!("'layer.json' does not agree with the tree"));
    }
    Ok(())
}

/// Compares what is written to it with a file, and keeps the first lines that differ.
struct Compare<R> {
    stored: io::BufReader<R>,
    line: Vec<u8>,
    first: Option<(Vec<u8>, Vec<u8>)>,
}

const LINE_BYTES_MAX: u64 = 64 << 10;

impl<R: Read> Compare<Hashing<R>> {
    fn new(stored: Hashing<R>) -> Self {
        Self {
            stored: io::BufReader::new(stored),
            line: Vec::new(),
            first: None,
        }
    }

    fn stored_line(&mut self) -> io::Result<Vec<u8>> {
        use io::BufRead as _;
        let mut line = Vec::new();
        (&mut self.stored)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        Ok(line)
    }

    fn finish(mut self, findings: &mut Vec<anyhow::Error>) -> anyhow::Result<Digest> {
        if self.first.is_none() {
            let rest = self.stored_line()?;
            if !rest.is_empty() {
                self.first = Some((rest, Vec::new()));
            }
        }
        if let Some((stored, found)) = self.first.take() {
            let (was, is) = (facts::path_of(&stored), facts::path_of(&found));
            let shown = |line: &[u8], path: &std::ffi::OsStr| {
                let path = path.as_encoded_bytes();
                printable(path.strip_suffix(b"\n").unwrap_or(path)).to_owned()
                    + if line.is_empty() { "(nothing)" } else { "" }
            };
            findings.push(if was == is {
                anyhow!("'{}' is not as it was unpacked", shown(&stored, &was))
            } else {
                anyhow!(
                    "'{}' was unpacked, but '{}' is there",
                    shown(&stored, &was),
                    shown(&found, &is)
                )
            });
        }
        io::copy(&mut self.stored, &mut io::sink())?;
        Ok(self.stored.into_inner().finish().0)
    }
}

impl<R: Read> io::Write for Compare<Hashing<R>> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        for byte in buffer {
            self.line.push(*byte);
            if *byte == b'\n' {
                let found = std::mem::take(&mut self.line);
                if self.first.is_none() {
                    let stored = self.stored_line()?;
                    if stored != found {
                        self.first = Some((stored, found));
                    }
                }
            }
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
