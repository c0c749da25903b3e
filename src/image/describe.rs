// SPDX-License-Identifier: Apache-2.0
//! What images an archive holds: the documents of docker-archives and OCI layouts.
//!
//! Only documents are read here, each bounded and verified; layers are named, and `load` brings
//! them. Of several manifests with one name, that of this machine is taken.

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::archive::Archive;
use super::config::{self, ConfigFile};
use super::manifest::LAYERS_MAX;
use super::manifest::{self, DOCUMENT_BYTES_MAX, Descriptor, Document};
use super::platform::{self, Found};
use super::{Digest, Reference};
use crate::platform::Platform;

/// How many documents are read of one archive (threats R7).
const DOCUMENTS_MAX: usize = 100;

/// An image as an archive describes it.
pub(super) struct Described {
    /// Its names.
    pub(super) references: Vec<Reference>,
    /// Its manifest as it came; none for a docker-archive, which has none.
    pub(super) manifest: Option<Vec<u8>>,
    pub(super) config: ConfigFile,
    pub(super) config_bytes: Vec<u8>,
    pub(super) layers: Vec<LayerSource>,
}

/// Where a layer is in the archive, and what its bytes must be if anything says so.
pub(super) struct LayerSource {
    pub(super) member: String,
    pub(super) descriptor: Option<Descriptor>,
}

/// Reads all documents of an archive, verifies them, and says what images it holds.
pub(super) fn describe(archive: &Archive) -> anyhow::Result<Vec<Described>> {
    if archive.contains("index.json") {
        return describe_layout(archive);
    }
    if archive.contains("manifest.json") {
        return describe_docker(archive);
    }
    bail!("no archive of an image: it has neither 'index.json' (OCI) nor 'manifest.json' (Docker)")
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// docker-archive: `manifest.json` names a config and plain layers. The file `repositories` of
/// earlier versions says the same again and is ignored.
fn describe_docker(archive: &Archive) -> anyhow::Result<Vec<Described>> {
    let bytes = archive.read("manifest.json", DOCUMENT_BYTES_MAX)?;
    let images: Vec<DockerImage> =
        serde_json::from_slice(&bytes).context("reading 'manifest.json' of the archive")?;
    ensure!(!images.is_empty(), "the archive holds no image");
    ensure!(
        images.len() <= DOCUMENTS_MAX,
        "the archive holds {} images; at most {DOCUMENTS_MAX} are accepted",
        images.len()
    );
    let describe = |image: DockerImage| -> anyhow::Result<Described> {
        let config_bytes = archive.read(&image.config, DOCUMENT_BYTES_MAX)?;
        let config = config::parse(&config_bytes)?;
        let members = image.layers.unwrap_or_default();
        check_count(members.len(), &config)?;
        let tags = image.repo_tags.unwrap_or_default();
        Ok(Described {
            references: tags
                .iter()
                .map(|tag| tag.parse())
                .collect::<Result<Vec<Reference>, _>>()?,
            manifest: None,
            config,
            config_bytes,
            layers: members
                .into_iter()
                .map(|member| LayerSource {
                    member,
                    descriptor: None,
                })
                .collect(),
        })
    };
    images.into_iter().map(describe).collect()
}

fn check_count(layers: usize, config: &ConfigFile) -> anyhow::Result<()> {
    ensure!(
        layers == config.diff_ids.len() && layers <= LAYERS_MAX,
        "the manifest has {layers} layers, but the config {} diff IDs",
        config.diff_ids.len()
    );
    Ok(())
}

/// An OCI layout: entries of `index.json` with the same name are the same image for different
/// machines; every name is an image.
fn describe_layout(archive: &Archive) -> anyhow::Result<Vec<Described>> {
    let bytes = archive.read("index.json", DOCUMENT_BYTES_MAX)?;
    let Document::Index(entries) = manifest::parse(&bytes).context("reading 'index.json'")? else {
        bail!("'index.json' of the archive is no index");
    };
    let mut names: Vec<Option<String>> = Vec::new();
    let mut groups: Vec<Vec<Descriptor>> = Vec::new();
    for entry in entries {
        let name = name_of(&entry);
        match names.iter().position(|known| *known == name) {
            Some(at) => groups
                .get_mut(at)
                .into_iter()
                .for_each(|g| g.push(entry.clone())),
            None => {
                names.push(name);
                groups.push(vec![entry]);
            }
        }
    }
    ensure!(!groups.is_empty(), "the archive holds no image");
    let mut documents = 0;
    let mut images: Vec<Described> = Vec::new();
    for (name, group) in names.into_iter().zip(groups) {
        let references: Vec<Reference> = match name {
            Some(name) => vec![name.parse()?],
            None => Vec::new(),
        };
        let descriptor = choose(group)?;
        let mut image = read_image(archive, &descriptor, &mut documents)?;
        image.references = references;
        images.push(image);
    }
    Ok(images)
}

/// The full name that containerd and docker write, before the one of the specification, which
/// some writers fill with a tag alone.
fn name_of(entry: &Descriptor) -> Option<String> {
    let annotations = entry.annotations.as_ref()?;
    annotations
        .get("io.containerd.image.name")
        .or_else(|| annotations.get("org.opencontainers.image.ref.name"))
        .cloned()
}

fn choose(mut group: Vec<Descriptor>) -> anyhow::Result<Descriptor> {
    match (group.pop(), group.is_empty()) {
        (Some(only), true) => Ok(only),
        (last, _) => {
            group.extend(last);
            platform::select(&group, &Platform::local()).cloned()
        }
    }
}

fn read_image(
    archive: &Archive,
    descriptor: &Descriptor,
    documents: &mut usize,
) -> anyhow::Result<Described> {
    let mut read = |descriptor: &Descriptor| {
        *documents += 1;
        ensure!(
            *documents <= DOCUMENTS_MAX,
            "the archive holds more than {DOCUMENTS_MAX} manifests"
        );
        read_blob(archive, descriptor)
    };
    let bytes = read(descriptor)?;
    let document = manifest::parse_described(&bytes, descriptor)?;
    let platform = Platform::local();
    let Found { manifest, bytes } = platform::find(bytes, document, &platform, &mut read)?;
    let config_bytes = read_blob(archive, &manifest.config)?;
    let config = config::parse(&config_bytes)?;
    check_count(manifest.layers.len(), &config)?;
    let layers = manifest.layers.iter().map(|layer| LayerSource {
        member: blob_name(&layer.digest),
        descriptor: Some(layer.clone()),
    });
    Ok(Described {
        references: Vec::new(),
        layers: layers.collect(),
        manifest: Some(bytes),
        config,
        config_bytes,
    })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn read_blob(archive: &Archive, descriptor: &Descriptor) -> anyhow::Result<Vec<u8>> {
    let bytes = archive.read(&blob_name(&descriptor.digest), DOCUMENT_BYTES_MAX)?;
    manifest::check_blob(descriptor, &Digest::of(&bytes), bytes.len() as u64)?;
    Ok(bytes)
}
