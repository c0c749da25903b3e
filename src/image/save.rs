// SPDX-License-Identifier: Apache-2.0
//! Saving images as oci-archive, as docker-archive or as an OCI layout in a directory.
//!
//! Blobs go out byte for byte and are verified on the way, so what is loaded from the result has
//! the digests it had. The result depends on the images and the order they are named in, on
//! nothing else: no times, no owners.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::manifest::{self, Descriptor};
use super::store::{Documents, Store};
use super::{Digest, Reference};
use crate::digest::Hashing;
use crate::storage::decode::{self, Compression};
use crate::sys::dir::Dir;

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar archive of an OCI layout.
    OciArchive,
    /// What `docker load` reads. It has no manifest, so the image gets a new one where it is loaded.
    DockerArchive,
}

/// An image to save, and the names it gets in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// The manifest's digest.
    pub digest: Digest,
    /// None for an image that is known by its digest alone.
    pub references: Vec<Reference>,
}

/// Finds images by names or ids; one that is named twice is there once, with both names.
pub fn select(store: &Store, texts: &[String]) -> anyhow::Result<Vec<Selected>> {
    let mut selected: Vec<Selected> = Vec::new();
    for text in texts {
        let (reference, digest) = store.find_named(text)?;
        let name = reference.and_then(|reference| reference.without_digest());
        let at = selected.iter_mut().find(|image| image.digest == digest);
        match (at, name) {
            (Some(image), name) => {
                if let Some(name) = name.filter(|name| !image.references.contains(name)) {
                    image.references.push(name);
                }
            }
            (None, name) => selected.push(Selected {
                digest,
                references: name.into_iter().collect(),
            }),
        }
    }
    Ok(selected)
}

/// Writes an archive of the images to `out`.
pub fn save(
    store: &Store,
    images: &[Selected],
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut sink = TarSink::new(out);
    match format {
        Format::OciArchive => write_layout(store, images, &mut sink)?,
        Format::DockerArchive => write_docker(store, images, &mut sink)?,
    }
    sink.finish()
}

/// Writes an OCI layout of the images into `dir`, which is absent or empty; it is there as a whole
/// or not at all.
pub fn save_dir(store: &Store, images: &[Selected], dir: &Path) -> anyhow::Result<()> {
    let absent_or_empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(err) => err.kind() == io::ErrorKind::NotFound,
    };
    ensure!(
        absent_or_empty,
        "'{}' is not an empty directory; give the name of a new one",
        dir.display()
    );
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        bail!("'{}' is no name of a new directory", dir.display());
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let parent = Dir::open(parent)?;
    let mut staged = std::ffi::OsString::from(".#");
    staged.push(name);
    staged.push(format!(".{}", std::process::id()));
    parent.remove_tree(&staged)?;
    parent.make_dir(&staged)?;
    let written = DirSink::new(&parent, &staged).and_then(|mut sink| {
        write_layout(store, images, &mut sink)?;
        parent.set_mode(&staged, 0o755)?;
        // An empty directory is replaced.
        Ok(parent.rename(&staged, &parent, name)?)
    });
    if written.is_err() {
        // The first error is the one to report.
        drop(parent.remove_tree(&staged));
    }
    written
}

/// Where the files of a layout go.
trait Sink {
    fn dir(&mut self, name: &str) -> anyhow::Result<()>;
    /// Writes a file of `size` bytes; whoever calls has seen to it that `content` gives as many.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> anyhow::Result<()>;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

fn write_layout(store: &Store, images: &[Selected], sink: &mut dyn Sink) -> anyhow::Result<()> {
    let mut manifests = Vec::new();
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    for image in images {
        let bytes = store.read_blob(&image.digest)?;
        let Documents {
            manifest, config, ..
        } = store.documents(&image.digest)?;
        blobs.insert(image.digest, bytes.len() as u64);
        let descriptors = manifest.layers.iter().chain([&manifest.config]);
        blobs.extend(descriptors.map(|descriptor| (descriptor.digest, descriptor.size)));
        let entry = |reference: Option<&Reference>| Descriptor {
            media_type: manifest::media_type(&bytes).to_owned(),
            digest: image.digest,
            size: bytes.len() as u64,
            platform: Some(config.platform()),
            annotations: reference.map(|reference| {
                let name = reference.to_string();
                // The name of the specification, and the one that containerd and docker read.
                let keys = [
                    "io.containerd.image.name",
                    "org.opencontainers.image.ref.name",
                ];
                let pairs = keys.map(|key| (key.to_owned(), name.clone()));
                pairs.into_iter().collect()
            }),
        };
        match image.references.as_slice() {
            [] => manifests.push(entry(None)),
            names => manifests.extend(names.iter().map(|name| entry(Some(name)))),
        }
    }
    let index = serde_json::to_vec(&Index {
        schema_version: 2,
        media_type: "application/vnd.oci.image.index.v1+json",
        manifests,
    })?;
    let version: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
    for (name, bytes) in [("oci-layout", version), ("index.json", &index)] {
        sink.file(name, bytes.len() as u64, &mut io::Cursor::new(bytes))?;
    }
    sink.dir("blobs")?;
    sink.dir("blobs/sha256")?;
    for (digest, size) in blobs {
        let name = format!("blobs/sha256/{}", digest.hex());
        let mut blob = Verified::open(store, &digest, size)?;
        sink.file(&name, size, &mut blob)
            .and_then(|()| blob.finish())
            .with_context(|| format!("saving blob '{digest}'"))?;
    }
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// `manifest.json`, configs, and layers by diff ID: plain or gzip as they are, which every reader
/// of this format takes; zstd, which not every one does, as plain ones.
fn write_docker(store: &Store, images: &[Selected], sink: &mut dyn Sink) -> anyhow::Result<()> {
    let mut list = Vec::new();
    let mut documents = Vec::new();
    for image in images {
        let found = store.documents(&image.digest)?;
        let config = format!("{}.json", found.manifest.config.digest.hex());
        let layers = found.config.diff_ids.iter();
        list.push(DockerImage {
            config,
            repo_tags: image.references.iter().map(Reference::to_string).collect(),
            layers: layers.map(|id| format!("{}.tar", id.hex())).collect(),
        });
        documents.push(found);
    }
    let list = serde_json::to_vec(&list)?;
    sink.file("manifest.json", list.len() as u64, &mut list.as_slice())?;
    let mut written = BTreeSet::new();
    for Documents {
        manifest, config, ..
    } in documents
    {
        let id = manifest.config.digest;
        if written.insert(id) {
            let bytes = store.read_blob(&id)?;
            let name = format!("{}.json", id.hex());
            sink.file(&name, bytes.len() as u64, &mut bytes.as_slice())?;
        }
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            if written.insert(*diff_id) {
                write_docker_layer(store, descriptor, diff_id, sink)
                    .with_context(|| format!("saving layer '{diff_id}'"))?;
            }
        }
    }
    Ok(())
}

fn write_docker_layer(
    store: &Store,
    descriptor: &Descriptor,
    diff_id: &Digest,
    sink: &mut dyn Sink,
) -> anyhow::Result<()> {
    let name = format!("{}.tar", diff_id.hex());
    let open = || Verified::open(store, &descriptor.digest, descriptor.size);
    let compression = decode::decode(open()?)?.compression();
    match compression {
        Compression::Plain | Compression::Gzip => {
            let mut blob = open()?;
            sink.file(&name, descriptor.size, &mut blob)?;
            blob.finish()
        }
        Compression::Zstd => {
            // A header comes before its content, so the size has to be known first; a second
            // decompression costs less than room for a copy.
            let size = io::copy(&mut decode::decode(open()?)?, &mut io::sink())?;
            let mut plain = Hashing::new(decode::decode(open()?)?);
            sink.file(&name, size, &mut plain)?;
            let (found, _, _) = plain.finish();
            ensure!(found == *diff_id, "its content is {found}");
            Ok(())
        }
    }
}

/// A blob that is read and verified.
struct Verified {
    reader: Hashing<io::Take<File>>,
    digest: Digest,
    size: u64,
}

impl Verified {
    fn open(store: &Store, digest: &Digest, size: u64) -> anyhow::Result<Self> {
        let file = Dir::open(&store.blobs_dir())
            .and_then(|dir| dir.open_file(digest.hex().as_ref()))
            .with_context(|| format!("opening blob '{digest}'"))?;
        let found = file.metadata()?.len();
        ensure!(
            found == size,
            "blob '{digest}' is damaged: it has {found} bytes, not {size}; mend it with 'wharf \
             image check --repair'"
        );
        Ok(Self {
            reader: Hashing::new(file.take(size)),
            digest: *digest,
            size,
        })
    }

    fn finish(self) -> anyhow::Result<()> {
        let (found, bytes, _) = self.reader.finish();
        ensure!(
            (found, bytes) == (self.digest, self.size),
            "its content is {found}; mend it with 'wharf image check --repair'"
        );
        Ok(())
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// A tar archive.
struct TarSink<'a> {
    builder: tar::Builder<&'a mut dyn Write>,
}

impl<'a> TarSink<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self {
            builder: tar::Builder::new(out),
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        let out = self.builder.into_inner().context("writing the archive")?;
        out.flush().context("writing the archive")
    }
}

fn header(name: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    // What is not set here is zero: owner and time.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

impl Sink for TarSink<'_> {
    fn dir(&mut self, name: &str) -> anyhow::Result<()> {
        header(&format!("{name}/"), tar::EntryType::Directory, 0o755, 0)
            .and_then(|header| self.builder.append(&header, io::empty()))
            .context("writing the archive")
    }

    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> anyhow::Result<()> {
        header(name, tar::EntryType::Regular, 0o644, size)
            .and_then(|header| self.builder.append(&header, content))
            .with_context(|| format!("writing '{name}' to the archive"))
    }
}

/// A directory of ours.
struct DirSink {
    top: Dir,
    /// Where the file of a name such as `a/b/c` goes.
    dirs: BTreeMap<String, Dir>,
}

impl DirSink {
    fn new(parent: &Dir, name: &std::ffi::OsStr) -> anyhow::Result<Self> {
        Ok(Self {
            top: parent.open_dir(name)?,
            dirs: BTreeMap::new(),
        })
    }

    fn find<'n>(&self, name: &'n str) -> (&Dir, &'n str) {
        let (dir, name) = name.rsplit_once('/').unwrap_or(("", name));
        (self.dirs.get(dir).unwrap_or(&self.top), name)
    }
}

impl Sink for DirSink {
    fn dir(&mut self, name: &str) -> anyhow::Result<()> {
        let (dir, last) = self.find(name);
        dir.make_dir(last.as_ref())?;
        dir.set_mode(last.as_ref(), 0o755)?;
        let made = dir.open_dir(last.as_ref())?;
        self.dirs.insert(name.to_owned(), made);
        Ok(())
    }

    fn file(&mut self, name: &str, _size: u64, content: &mut dyn Read) -> anyhow::Result<()> {
        let (dir, last) = self.find(name);
        let mut file = dir.make_file(last.as_ref())?;
        io::copy(content, &mut file).with_context(|| format!("writing '{name}'"))?;
        Ok(dir.set_mode(last.as_ref(), 0o644)?)
    }
}
