// SPDX-License-Identifier: Apache-2.0
//! Loading images from archives: docker-archive, oci-archive and OCI layouts in a directory.
//!
//! Everything is written and verified in staging directories first. Then one flush, renames of
//! layers and blobs, and last the reference: a load that is killed anywhere leaves no image that
//! is not whole (hostile-inputs K4, T23).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};

use super::archive::{Archive, Opened};
use super::config::ConfigFile;
use super::describe::{Described, LayerSource, check_blob, describe};
use super::manifest::{self, CONFIG_TYPE, Descriptor, Manifest};
use super::store::{STAGING_PREFIX, Store, Writer};
use super::{Digest, Reference};
use crate::digest::Hashing;
use crate::storage::extract::Notes;
use crate::storage::layer;
use crate::sys;
use crate::sys::dir::Dir;

/// Where to load from.
#[derive(Debug)]
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// An open stream, such as standard input.
    Stream(File),
}

/// What a load tells while it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A layer is about to be unpacked.
    Layer {
        /// Its digest or its name in the archive.
        name: String,
        /// Its place, from 1.
        number: usize,
        /// The image's layers.
        total: usize,
        /// Its compressed bytes.
        bytes: u64,
    },
    /// So many more compressed bytes of the layer were read.
    Progress(u64),
    /// The layer was in the store.
    Present(String),
    /// Everything is unpacked and verified and is being written to the disk.
    Flushing,
    /// Something that people should know and that stops nothing.
    Warning(String),
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Loaded {
    /// Its names.
    pub references: Vec<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest, which others call the image's id.
    pub id: Digest,
}

/// Loads all images of an archive; `name`, if any, is given to the only one.
pub fn load(
    store: &Store,
    source: Source,
    name: Option<&Reference>,
    report: &mut dyn FnMut(Event),
) -> anyhow::Result<Vec<Loaded>> {
    let writer = store.write()?;
    let staging = Staging::new(&writer)?;
    let spool = staging.images.join("spool");
    sys::fs::ensure_dir(&spool, 0o700)?;
    let archive = match source {
        Source::Path(path) => Archive::open(&path, &spool)?,
        Source::Stream(file) => {
            Archive::from_stream(file, &spool).context("reading an archive from a stream")?
        }
    };
    let mut images = describe(&archive)?;
    if let Some(name) = name {
        match images.as_mut_slice() {
            [only] => only.references = vec![name.clone()],
            several => bail!(
                "the archive holds {} images; a name can only be given to one",
                several.len()
            ),
        }
    }
    let mut work = Work {
        writer: &writer,
        staging: &staging,
        archive: &archive,
        layers: BTreeSet::new(),
        blobs: BTreeMap::new(),
        report,
    };
    let mut loaded = Vec::new();
    for image in images {
        loaded.push(work.stage(image)?);
    }
    work.commit()?;
    for image in &loaded {
        for reference in &image.references {
            writer.set_reference(reference, &image.digest)?;
        }
        if image.references.is_empty() && !is_named(store, &image.digest)? {
            writer.keep_unnamed(&image.digest)?;
        }
    }
    Ok(loaded)
}

fn is_named(store: &Store, digest: &Digest) -> anyhow::Result<bool> {
    Ok(store
        .records()?
        .iter()
        .any(|record| record.digest == *digest))
}

/// Directories of ours on the file systems of blobs and of layers; removed on drop. The lock that
/// the writer holds keeps others from sweeping them.
struct Staging {
    images: PathBuf,
    layers: PathBuf,
}

impl Staging {
    fn new(writer: &Writer<'_>) -> anyhow::Result<Self> {
        let name = format!("{STAGING_PREFIX}{}", unique());
        let staging = Self {
            images: writer.store().images_dir().join(&name),
            layers: writer.store().layers_dir().join(&name),
        };
        sys::fs::ensure_dir(&staging.images, 0o700)?;
        sys::fs::ensure_dir(&staging.layers, 0o700)?;
        Ok(staging)
    }
}

/// A name that no other process and no other thread of this one uses.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    format!("{}-{serial}", std::process::id())
}

impl Drop for Staging {
    fn drop(&mut self) {
        for path in [&self.images, &self.layers] {
            let removed = path
                .parent()
                .map(Dir::open)
                .and_then(Result::ok)
                .zip(path.file_name())
                .map(|(dir, name)| dir.remove_tree(name));
            if let Some(Err(err)) = removed {
                tracing::warn!("cannot remove '{}', ignoring: {err}", path.display());
            }
        }
    }
}

/// One load: what has been staged so far.
struct Work<'a> {
    writer: &'a Writer<'a>,
    staging: &'a Staging,
    archive: &'a Archive,
    /// Diff IDs of layers in staging.
    layers: BTreeSet<Digest>,
    /// Blobs in staging, with their file.
    blobs: BTreeMap<Digest, PathBuf>,
    report: &'a mut dyn FnMut(Event),
}

impl Work<'_> {
    fn stage(&mut self, image: Described) -> anyhow::Result<Loaded> {
        self.warn_platform(&image.config);
        let total = image.layers.len();
        let mut descriptors = Vec::with_capacity(total);
        for (index, (layer, diff_id)) in image.layers.iter().zip(&image.config.diff_ids).enumerate()
        {
            let content = self.archive.member(&layer.member)?;
            (self.report)(Event::Layer {
                name: diff_id.short(),
                number: index + 1,
                total,
                bytes: content.size,
            });
            let descriptor = self
                .stage_layer(content, layer, diff_id)
                .with_context(|| format!("loading layer '{diff_id}'"))?;
            descriptors.push(descriptor);
        }
        let id = Digest::of(&image.config_bytes);
        let bytes = match image.manifest {
            Some(bytes) => bytes,
            None => {
                let config = Descriptor {
                    media_type: CONFIG_TYPE.to_owned(),
                    digest: id,
                    size: image.config_bytes.len() as u64,
                    platform: None,
                    annotations: None,
                };
                serde_json::to_vec(&Manifest::new(config, descriptors))?
            }
        };
        let digest = Digest::of(&bytes);
        self.stage_document(id, &image.config_bytes)?;
        self.stage_document(digest, &bytes)?;
        Ok(Loaded {
            references: image.references,
            digest,
            id,
        })
    }

    fn warn_platform(&mut self, config: &ConfigFile) {
        let local = manifest::local_platform();
        if config.os != local.os || config.architecture != local.architecture {
            let text = format!(
                "the image is for {}/{}, this machine is {}/{}",
                config.os.escape_debug(),
                config.architecture.escape_debug(),
                local.os,
                local.architecture
            );
            (self.report)(Event::Warning(text));
        }
    }

    fn stage_document(&mut self, digest: Digest, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.new_blob_path();
        let mut file = new_file(&path)?;
        file.write_all(bytes)
            .with_context(|| format!("writing '{}'", path.display()))?;
        self.blobs.insert(digest, path);
        Ok(())
    }

    fn new_blob_path(&self) -> PathBuf {
        self.staging.images.join(format!("blob-{}", unique()))
    }

    /// Copies a layer's blob and unpacks it, unless both are there; returns its descriptor.
    fn stage_layer(
        &mut self,
        content: Opened,
        source: &LayerSource,
        diff_id: &Digest,
    ) -> anyhow::Result<Descriptor> {
        let store = self.writer.store();
        let unpacked =
            self.layers.contains(diff_id) || layer::load(store.layers_dir(), diff_id).is_ok();
        if let Some(descriptor) = &source.descriptor {
            ensure!(
                content.size == descriptor.size,
                "blob '{}' has {} bytes, but its descriptor says {}",
                descriptor.digest,
                content.size,
                descriptor.size
            );
            let digest = &descriptor.digest;
            let stored = std::fs::metadata(store.blob_path(digest))
                .is_ok_and(|stored| stored.len() == descriptor.size);
            if unpacked && (stored || self.blobs.contains_key(digest)) {
                (self.report)(Event::Present(diff_id.short()));
                return Ok(descriptor.clone());
            }
        }
        let path = self.new_blob_path();
        let mut tee = Hashing::new(Tee {
            reader: content.reader,
            copy: new_file(&path)?,
            report: self.report,
        });
        let unpack_dir = self.staging.layers.join(format!("layer-{}", unique()));
        sys::fs::ensure_dir(&unpack_dir, 0o700)?;
        let done = layer::unpack(&mut tee, &unpack_dir, Some(diff_id))?;
        // Decoders stop where their format ends; the blob's digest covers what is left.
        io::copy(&mut tee, &mut io::sink())?;
        let (digest, bytes, _) = tee.finish();
        let descriptor = match &source.descriptor {
            Some(descriptor) => {
                check_blob(descriptor, &digest, bytes)?;
                let said = manifest::layer_compression(&descriptor.media_type)?;
                ensure!(
                    said.is_none_or(|said| said == done.compression),
                    "its media type is '{}', but it is {}",
                    descriptor.media_type,
                    done.compression
                );
                descriptor.clone()
            }
            None => Descriptor {
                media_type: manifest::layer_type(done.compression).to_owned(),
                digest,
                size: bytes,
                platform: None,
                annotations: None,
            },
        };
        self.warn_notes(diff_id, done.notes);
        self.blobs.insert(digest, path);
        if !unpacked {
            let named = self.staging.layers.join(diff_id.hex());
            std::fs::rename(&unpack_dir, &named)
                .with_context(|| format!("renaming '{}'", unpack_dir.display()))?;
            self.layers.insert(*diff_id);
        }
        Ok(descriptor)
    }

    fn warn_notes(&mut self, diff_id: &Digest, notes: Notes) {
        let Notes {
            replaced,
            dropped_xattrs,
        } = notes;
        let mut warn = |count: u64, what: &str| {
            if count > 0 {
                let text = format!("layer {}: {count} {what}", diff_id.short());
                (self.report)(Event::Warning(text));
            }
        };
        warn(replaced, "entries were there before, the last one counts");
        warn(
            dropped_xattrs,
            "extended attributes are not allowed in images, ignoring",
        );
    }

    /// Makes everything durable, then visible: layers and blobs by rename. References follow.
    fn commit(self) -> anyhow::Result<()> {
        (self.report)(Event::Flushing);
        let store = self.writer.store();
        let staged_layers = Dir::open(&self.staging.layers)?;
        staged_layers.sync_file_system()?;
        Dir::open(&self.staging.images)?.sync_file_system()?;
        let layers = Dir::open(store.layers_dir())?;
        for diff_id in &self.layers {
            let name = diff_id.hex();
            if layer::load(store.layers_dir(), diff_id).is_ok() {
                // Another load was faster; ours is removed with the staging directory.
                continue;
            }
            if layers.entry(name.as_ref())?.is_some() {
                // What is there is damaged.
                let aside = format!("damaged-{name}");
                layers.rename(name.as_ref(), &staged_layers, aside.as_ref())?;
            }
            let renamed = staged_layers.rename(name.as_ref(), &layers, name.as_ref());
            match renamed {
                Err(_) if layer::load(store.layers_dir(), diff_id).is_ok() => {}
                other => other?,
            }
        }
        for (digest, path) in &self.blobs {
            let target = store.blob_path(digest);
            std::fs::rename(path, &target)
                .with_context(|| format!("renaming '{}'", target.display()))?;
        }
        layers.sync()?;
        Ok(sys::fs::sync_dir(&store.blobs_dir())?)
    }
}

fn new_file(path: &Path) -> anyhow::Result<File> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(anyhow!("'{}' is no file name", path.display()));
    };
    Ok(Dir::open(parent)?.make_file(name)?)
}

/// A reader that keeps a copy of what goes through it, and tells how much.
struct Tee<'a> {
    reader: Box<dyn Read>,
    copy: File,
    report: &'a mut dyn FnMut(Event),
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.copy.write_all(buffer.get(..n).unwrap_or_default())?;
        (self.report)(Event::Progress(n as u64));
        Ok(n)
    }
}
