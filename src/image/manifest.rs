// SPDX-License-Identifier: Apache-2.0
//! Manifests and indexes of the OCI image specification, and Docker's of the same shape.
//!
//! Parsed strictly: keys given twice, documents that are both a manifest and an index, schema 1,
//! artifacts and absurd sizes are refused.

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::platform::Platform;
use crate::storage::decode::Compression;

/// Most layers of an image (threats T26), and so most diff IDs.
pub const LAYERS_MAX: usize = 500;

/// Largest manifest, index or config that is read: 4 MiB, as registries have it.
pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;

/// Most manifests in one index.
const MANIFESTS_MAX: usize = 1000;

/// Media type of a manifest that we make ourselves.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of its config.
pub const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// A descriptor: what some content is, its digest and its size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Number of its bytes.
    pub size: u64,
    /// For which machines it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names and other data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// A manifest: one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    schema_version: u32,
    media_type: String,
    /// The config blob.
    pub config: Descriptor,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a document in a layout or on a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several, for different machines or under different names.
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    // Docker's schema 1, to be told from a damaged document.
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 2] = [
    CONFIG_TYPE,
    "application/vnd.docker.container.image.v1+json",
];

/// What was found is no image that can be run: an artifact, a Helm chart, schema 1. The command
/// line has an exit status for it.
#[derive(Debug, thiserror::Error)]
#[error("not a runnable image: {reason}")]
pub struct NotRunnable {
    reason: String,
}

impl NotRunnable {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }
}

/// Whether a descriptor names an index rather than a manifest.
pub fn is_index(descriptor: &Descriptor) -> bool {
    INDEX_TYPES.contains(&descriptor.media_type.as_str())
}

/// Parses a manifest or an index that a registry calls `content_type` (threats R6); that it
/// is not what the document calls itself is the client's to find.
pub fn parse_as(bytes: &[u8], content_type: &str) -> anyhow::Result<Document> {
    let said = content_type.split(';').next().unwrap_or_default().trim();
    let document = parse(bytes)?;
    let (known, is_kind) = match document {
        Document::Manifest(_) => (MANIFEST_TYPES, "a manifest"),
        Document::Index(_) => (INDEX_TYPES, "an index"),
    };
    // Simple servers know no better.
    let says_nothing = matches!(
        said,
        "" | "application/json" | "application/octet-stream" | "text/plain"
    );
    ensure!(
        says_nothing || known.contains(&said),
        "the registry calls '{}' what is {is_kind}",
        said.escape_debug()
    );
    Ok(document)
}

/// Parses what `descriptor` describes, which must be of the kind that it says.
pub fn parse_described(bytes: &[u8], descriptor: &Descriptor) -> anyhow::Result<Document> {
    let document = parse(bytes)?;
    match (&document, is_index(descriptor)) {
        (Document::Index(_), false) => bail!(
            "an index has the media type '{}'",
            descriptor.media_type.escape_debug()
        ),
        (Document::Manifest(_), true) => bail!("a manifest has the media type of an index"),
        (Document::Index(_), true) | (Document::Manifest(_), false) => Ok(document),
    }
}

/// Parses a manifest or an index.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Document> {
    let raw: Raw = serde_json::from_slice(bytes).context("reading a manifest")?;
    let media_type = raw.media_type.as_deref();
    if raw.schema_version == 1 || raw.fs_layers.is_some() {
        let text = "a manifest of Docker's schema 1; push the image again with a newer builder";
        bail!(NotRunnable::new(text));
    }
    ensure!(
        raw.schema_version == 2,
        "a manifest of schema {}; only schema 2 and OCI manifests are known",
        raw.schema_version
    );
    match (raw.manifests, raw.layers, raw.config) {
        (Some(manifests), None, None) => {
            ensure!(
                media_type.is_none_or(|is| INDEX_TYPES.contains(&is)),
                "an index has the media type '{}'",
                media_type.unwrap_or_default().escape_debug()
            );
            ensure!(
                manifests.len() <= MANIFESTS_MAX,
                "an index of {} manifests; at most {MANIFESTS_MAX} are accepted",
                manifests.len()
            );
            Ok(Document::Index(manifests))
        }
        (None, Some(layers), Some(config)) => {
            ensure!(
                media_type.is_none_or(|is| MANIFEST_TYPES.contains(&is)),
                "a manifest has the media type '{}'",
                media_type.unwrap_or_default().escape_debug()
            );
            if let Some(artifact) = raw.artifact_type {
                let text = format!("it is an artifact of type '{}'", artifact.escape_debug());
                bail!(NotRunnable::new(text));
            }
            if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
                let text = format!("its config is '{}'", config.media_type.escape_debug());
                bail!(NotRunnable::new(text));
            }
            ensure!(
                layers.len() <= LAYERS_MAX,
                "the image has {} layers; at most {LAYERS_MAX} are supported",
                layers.len()
            );
            for layer in &layers {
                layer_compression(&layer.media_type)?;
            }
            Ok(Document::Manifest(Manifest::new(config, layers)))
        }
        (Some(_), _, _) => bail!("a document is both a manifest and an index"),
        (None, _, _) => bail!("a document is neither a manifest nor an index"),
    }
}

/// The media type that a manifest's bytes are sent and listed with: what they say, or that of OCI,
/// whose manifests need not say it.
pub fn media_type(bytes: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    struct Said {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let said = serde_json::from_slice::<Said>(bytes).ok();
    let said = said.and_then(|said| said.media_type);
    MANIFEST_TYPES
        .into_iter()
        .find(|known| said.as_deref() == Some(known))
        .unwrap_or(MANIFEST_TYPE)
}

impl Manifest {
    /// A manifest of ours, for archives that have none.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST_TYPE.to_owned(),
            config,
            layers,
        }
    }
}

/// Checks what was read of a blob against what was said about it.
pub(super) fn check_blob(
    descriptor: &Descriptor,
    digest: &Digest,
    bytes: u64,
) -> anyhow::Result<()> {
    ensure!(
        bytes == descriptor.size,
        "blob '{}' has {bytes} bytes, but its descriptor says {}",
        descriptor.digest,
        descriptor.size
    );
    ensure!(
        *digest == descriptor.digest,
        "blob '{}' has the content {digest}",
        descriptor.digest
    );
    Ok(())
}

/// How a layer of this media type is compressed; none when it does not say.
pub fn layer_compression(media_type: &str) -> anyhow::Result<Option<Compression>> {
    match media_type {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar" => Ok(Some(Compression::Plain)),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => {
            Ok(Some(Compression::Gzip))
        }
        // `docker save` and others write this type for plain layers too.
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => Ok(None),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Ok(Some(Compression::Zstd)),
        other => bail!(NotRunnable::new(format!(
            "it has a layer of type '{}'",
            other.escape_debug()
        ))),
    }
}

/// The media type of a layer that came without one.
pub fn layer_type(compression: Compression) -> &'static str {
    match compression {
        Compression::Plain => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(media_type: &str) -> String {
        let digest = Digest::of(b"");
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
    }

    #[test]
    fn r5_r6_strict_documents() {
        let config = descriptor(CONFIG_TYPE);
        let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
        let good = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"x":1}}"#);
        assert!(matches!(parse(good.as_bytes()), Ok(Document::Manifest(_))));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let many = vec![layer.as_str(); 501].join(",");
        for bad in [
            format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{many}]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{deep}]}}"#),
            format!(r#"{{"schemaVersion":2,"mediaType":"x","config":{config},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{config}}}"#),
            good.replace(r#""size":1"#, r#""size":-1"#),
            good.replace(r#""size":1"#, r#""size":18446744073709551616"#),
            good.replace("sha256:", "sha256:../../"),
            format!("\u{feff}{good}"),
            deep,
        ] {
            let shown: String = bad.chars().take(200).collect();
            assert!(parse(bad.as_bytes()).is_err(), "{shown}");
        }
    }
}
