// SPDX-License-Identifier: Apache-2.0
//! Images from archives and to archives: load, save, and making one of a root file system.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;

use crate::digest::Digest;
use crate::engine::images::needs;
use crate::engine::refusal::Misuse;
use crate::image::import::{self, Labels};
use crate::image::load;
use crate::image::save::{self, Selected};
use crate::image::store::Store;
use crate::instruction::Instruction;
use crate::paths::Paths;
use crate::reference::Reference;

/// Where an archive is.
#[derive(Debug)]
pub enum Source {
    /// A file or a directory.
    Path(PathBuf),
    /// An open stream, such as standard input.
    Stream(File),
}

/// What happens while an archive is loaded.
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

impl From<load::Event> for Event {
    fn from(event: load::Event) -> Self {
        match event {
            load::Event::Layer {
                name,
                number,
                total,
                bytes,
            } => Self::Layer {
                name,
                number,
                total,
                bytes,
            },
            load::Event::Progress(bytes) => Self::Progress(bytes),
            load::Event::Present(name) => Self::Present(name),
            load::Event::Flushing => Self::Flushing,
            load::Event::Warning(text) => Self::Warning(text),
        }
    }
}

/// An image that was in an archive and is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names.
    pub references: Vec<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest, which others call the image's id.
    pub id: Digest,
}

/// Loads all images of an archive; the only one gets `name`, if there is one.
pub fn load(
    paths: &Paths,
    source: Source,
    name: Option<&Reference>,
    report: &mut dyn FnMut(Event),
) -> anyhow::Result<Vec<Loaded>> {
    let store = needs::store(paths)?;
    let shown = match &source {
        Source::Path(path) => path.display().to_string(),
        Source::Stream(_) => "-".to_owned(),
    };
    let source = match source {
        Source::Path(path) => load::Source::Path(path),
        Source::Stream(file) => load::Source::Stream(file),
    };
    let loaded = load::load(&store, source, name, &mut |event| report(event.into()))
        .with_context(|| format!("loading '{shown}'"))?;
    let loaded = loaded.into_iter().map(|image| {
        let load::Loaded {
            references,
            digest,
            id,
        } = image;
        Loaded {
            references,
            digest,
            id,
        }
    });
    Ok(loaded.collect())
}

/// What kind of archive is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar archive of an OCI image layout, with the images' digests.
    Oci,
    /// What `docker load` reads.
    Docker,
}

/// Images that are about to be saved.
#[derive(Debug)]
pub struct Selection {
    store: Store,
    images: Vec<Selected>,
}

impl Selection {
    /// Those that are named; one that is named twice is there once, with both names.
    pub fn find(paths: &Paths, images: &[String]) -> anyhow::Result<Self> {
        let store = Store::open(paths)?;
        let images = save::select(&store, images)?;
        Ok(Self { store, images })
    }

    /// Writes an archive of them.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> anyhow::Result<()> {
        let format = match format {
            Format::Oci => save::Format::OciArchive,
            Format::Docker => save::Format::DockerArchive,
        };
        save::save(&self.store, &self.images, format, out)
    }

    /// Makes `dir`, an OCI image layout of them.
    pub fn write_dir(&self, dir: &Path) -> anyhow::Result<()> {
        save::save_dir(&self.store, &self.images, dir)
    }
}

/// What is imported, and what is said of it.
#[derive(Debug)]
pub struct Import<'a> {
    /// The archive, open.
    pub file: File,
    /// What it is called, for the image's history.
    pub shown: String,
    /// The image's name.
    pub name: Option<&'a Reference>,
    /// Instructions of a Containerfile that are applied to its config.
    pub changes: &'a [String],
    /// Why it was made.
    pub message: Option<&'a str>,
}

/// An image that was made of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's digest.
    pub id: Digest,
    /// What people should know of it.
    pub warnings: Vec<String>,
}

/// Makes an image of an archive of a root file system.
///
/// # Errors
///
/// [`Misuse`] when an instruction is none.
pub fn import(paths: &Paths, asked: Import<'_>) -> anyhow::Result<Imported> {
    let instructions = asked.changes.iter().map(|text| text.parse::<Instruction>());
    let instructions = instructions
        .collect::<Result<Vec<_>, _>>()
        .map_err(|err| Misuse::new(err.to_string()))?;
    let store = needs::store(paths)?;
    let labels = Labels {
        name: asked.name.cloned(),
        instructions,
        message: asked.message.map(str::to_owned),
        created: Timestamp::now().to_string(),
        source: asked.shown.clone(),
    };
    let import::Imported {
        digest,
        id,
        warnings,
    } = import::import(&store, asked.file, &labels, &|_| {})
        .with_context(|| format!("importing '{}'", asked.shown))?;
    Ok(Imported {
        digest,
        id,
        warnings,
    })
}
