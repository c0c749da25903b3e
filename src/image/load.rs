// SPDX-License-Identifier: Apache-2.0
//! Loading images from archives: docker-archive, oci-archive and OCI layouts in a directory.
//!
//! All images of an archive are one `change`: everything is staged and verified, then flushed once,
//! and only then does the first of them get its name (threats K4, T23).

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::archive::{Archive, Opened};
use super::change::{Change, Expected};
use super::config::ConfigFile;
use super::describe::{Described, LayerSource, describe};
use super::manifest::{CONFIG_TYPE, Descriptor, Manifest};
use super::users::Writable;
use super::{Digest, Reference};
use crate::platform::Platform;
use crate::registry::policy::{Origin, Policy};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names.
    pub references: Vec<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest, which others call the image's id.
    pub id: Digest,
}

/// Loads all images of an archive, if the machine's policy takes it; `name`, if any, is given to the only one.
pub fn load(
    store: &Writable,
    source: Source,
    name: Option<&Reference>,
    report: &mut dyn FnMut(Event),
) -> anyhow::Result<Vec<Loaded>> {
    let change = store.change()?;
    let spool = change.make_spool()?;
    let (archive, path) = match source {
        Source::Path(path) => match place(&path) {
            Some(place) => (Archive::open(&place, &spool)?, Some(place)),
            None => (Archive::open(&path, &spool)?, None),
        },
        Source::Stream(file) => {
            let archive = Archive::from_stream(file, &spool);
            (archive.context("reading an archive from a stream")?, None)
        }
    };
    check_policy(&Policy::load(&store.paths)?, &archive, path.as_deref())?;
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
    let work = Work {
        change: &change,
        archive: &archive,
        report: RefCell::new(report),
    };
    let mut loaded = Vec::new();
    for image in images {
        loaded.push(work.stage(image)?);
    }
    work.tell(Event::Flushing);
    change.publish()?;
    for image in &loaded {
        change.commit(&image.references, &image.digest)?;
    }
    Ok(loaded)
}

/// A file or a directory without links, as a policy's scopes name it; a pipe has no place.
fn place(path: &Path) -> Option<PathBuf> {
    let has_place = path.is_file() || path.is_dir();
    has_place
        .then(|| std::fs::canonicalize(path).ok())
        .flatten()
}

/// An archive that can be read in two ways has to be taken in both.
fn check_policy(policy: &Policy, archive: &Archive, path: Option<&Path>) -> anyhow::Result<()> {
    if archive.contains("index.json") {
        policy.check(match path {
            Some(path) if path.is_dir() => Origin::OciLayout(path),
            Some(path) => Origin::OciArchive(Some(path)),
            None => Origin::OciArchive(None),
        })?;
    }
    if archive.contains("manifest.json") {
        policy.check(Origin::DockerArchive)?;
    }
    Ok(())
}

/// One load.
struct Work<'a> {
    change: &'a Change<'a>,
    archive: &'a Archive,
    report: RefCell<&'a mut dyn FnMut(Event)>,
}

impl Work<'_> {
    fn tell(&self, event: Event) {
        (self.report.borrow_mut())(event);
    }

    fn stage(&self, image: Described) -> anyhow::Result<Loaded> {
        self.warn_platform(&image.config);
        let total = image.layers.len();
        let mut descriptors = Vec::with_capacity(total);
        for (index, (layer, diff_id)) in image.layers.iter().zip(&image.config.diff_ids).enumerate()
        {
            let content = self.archive.member(&layer.member)?;
            self.tell(Event::Layer {
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
        let id = self.change.add_document(&image.config_bytes)?;
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
        Ok(Loaded {
            references: image.references,
            digest: self.change.add_document(&bytes)?,
            id,
        })
    }

    fn warn_platform(&self, config: &ConfigFile) {
        let (found, local) = (config.platform(), Platform::local());
        if !local.runs(&found) {
            self.tell(Event::Warning(format!(
                "the image is for {found}, this machine is {local}"
            )));
        }
    }

    /// Adds a layer unless it is there; returns its descriptor.
    fn stage_layer(
        &self,
        content: Opened,
        source: &LayerSource,
        diff_id: &Digest,
    ) -> anyhow::Result<Descriptor> {
        if let Some(descriptor) = &source.descriptor {
            ensure!(
                content.size == descriptor.size,
                "blob '{}' has {} bytes, but its descriptor says {}",
                descriptor.digest,
                content.size,
                descriptor.size
            );
            if self.change.has_layer(descriptor, diff_id)? {
                self.tell(Event::Present(diff_id.short()));
                return Ok(descriptor.clone());
            }
        }
        let expected = Expected {
            descriptor: source.descriptor.clone(),
            diff_id: Some(*diff_id),
        };
        let progress = |bytes| self.tell(Event::Progress(bytes));
        let added = self
            .change
            .add_layer(content.reader, &expected, &progress)?;
        for warning in added.notes.warnings(diff_id) {
            self.tell(Event::Warning(warning));
        }
        Ok(added.descriptor)
    }
}
