// SPDX-License-Identifier: Apache-2.0
//! Images: what came and went, what one is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::SCHEMA;
use super::store::{Reason, Size};
use crate::digest::Digest;
use crate::engine::images::archives::{self, Imported};
use crate::engine::images::describe;
use crate::engine::images::pull::{self, Outcome};
use crate::engine::images::push::{self, Way};
use crate::platform::Platform;
use crate::reference::Reference;

/// `image pull`, `image load` and `image inspect`.
#[derive(Debug, Serialize)]
pub struct Images<T> {
    schema: u32,
    /// In the order they were asked for, or are in the archive.
    images: Vec<T>,
}

impl<T> Images<T> {
    /// These.
    pub fn new<U>(images: Vec<U>) -> Self
    where
        T: From<U>,
    {
        Self {
            schema: SCHEMA,
            images: images.into_iter().map(T::from).collect(),
        }
    }
}

/// An image of `image pull --json`.
#[derive(Debug, Serialize)]
pub struct Pulled {
    reference: Reference,
    digest: Digest,
    id: Digest,
    /// `pulled`, `current` or `present`.
    outcome: &'static str,
    downloaded: u64,
}

impl From<pull::Pulled> for Pulled {
    fn from(pulled: pull::Pulled) -> Self {
        let pull::Pulled {
            reference,
            digest,
            id,
            outcome,
            downloaded,
        } = pulled;
        Self {
            reference,
            digest,
            id,
            outcome: match outcome {
                Outcome::Pulled => "pulled",
                Outcome::Current => "current",
                Outcome::Present => "present",
            },
            downloaded,
        }
    }
}

/// An image of `image load --json`.
#[derive(Debug, Serialize)]
pub struct Loaded {
    references: Vec<Reference>,
    digest: Digest,
    id: Digest,
}

impl From<archives::Loaded> for Loaded {
    fn from(loaded: archives::Loaded) -> Self {
        let archives::Loaded {
            references,
            digest,
            id,
        } = loaded;
        Self {
            references,
            digest,
            id,
        }
    }
}

/// `image import --json`.
#[derive(Debug, Serialize)]
pub struct Made<'a> {
    schema: u32,
    reference: Option<&'a Reference>,
    digest: Digest,
    id: Digest,
}

impl<'a> Made<'a> {
    /// This image.
    pub fn new(reference: Option<&'a Reference>, made: &Imported) -> Self {
        Self {
            schema: SCHEMA,
            reference,
            digest: made.digest,
            id: made.id,
        }
    }
}

/// `image push --json`.
#[derive(Debug, Serialize)]
pub struct Pushed {
    schema: u32,
    reference: Reference,
    digest: Digest,
    blobs: Vec<Blob>,
}

#[derive(Debug, Serialize)]
struct Blob {
    digest: Digest,
    bytes: u64,
    /// `present`, `mounted` or `uploaded`.
    result: &'static str,
}

impl From<push::Pushed> for Pushed {
    fn from(pushed: push::Pushed) -> Self {
        let push::Pushed {
            reference,
            digest,
            blobs,
        } = pushed;
        let blobs = blobs.into_iter().map(|sent| Blob {
            digest: sent.digest,
            bytes: sent.bytes,
            result: match sent.way {
                Way::Present => "present",
                Way::Mounted => "mounted",
                Way::Uploaded => "uploaded",
            },
        });
        Self {
            schema: SCHEMA,
            reference,
            digest,
            blobs: blobs.collect(),
        }
    }
}

/// An image of `image inspect`.
#[derive(Debug, Serialize)]
pub struct Inspected {
    references: Vec<Reference>,
    digest: Digest,
    id: Digest,
    created: Option<String>,
    /// When it was last started, loaded, pulled or named.
    used_at: String,
    author: Option<String>,
    os: String,
    architecture: String,
    /// Both again, with the variant, as an index has it.
    platform: Platform,
    config: Config,
    diff_ids: Vec<Digest>,
    manifest: Manifest,
    #[serde(flatten)]
    size: Size,
    /// Lowest first.
    layers: Vec<Layer>,
    /// Steps of its history; `image history` shows them.
    history_entries: usize,
    /// Why it cannot be removed now.
    in_use: Vec<Reason>,
    /// Where `image mount` has mounted it.
    mounted_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Config {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    volumes: BTreeSet<String>,
    exposed_ports: BTreeSet<String>,
    labels: BTreeMap<String, String>,
    healthcheck: Option<Healthcheck>,
}

/// Durations are nanoseconds, and 0 is the default, as images have them.
#[derive(Debug, Serialize)]
struct Healthcheck {
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u32,
}

/// A manifest in the form of OCI, whatever the image came as.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
struct Layer {
    diff_id: Digest,
    /// Of the layer as it came.
    digest: Digest,
    media_type: String,
    blob_bytes: u64,
    /// Unpacked.
    bytes: u64,
    entries: u64,
}

impl From<describe::Layer> for Layer {
    fn from(layer: describe::Layer) -> Self {
        let describe::Layer {
            diff_id,
            digest,
            media_type,
            blob_bytes,
            bytes,
            entries,
        } = layer;
        Self {
            diff_id,
            digest,
            media_type,
            blob_bytes,
            bytes,
            entries,
        }
    }
}

impl From<describe::Blob> for Descriptor {
    fn from(blob: describe::Blob) -> Self {
        let describe::Blob {
            media_type,
            digest,
            size,
            platform,
            annotations,
        } = blob;
        Self {
            media_type,
            digest,
            size,
            platform,
            annotations,
        }
    }
}

impl From<describe::Inspected> for Inspected {
    fn from(inspected: describe::Inspected) -> Self {
        let describe::Inspected {
            references,
            digest,
            config_blob,
            layer_blobs,
            config: file,
            used,
            size,
            layers,
            in_use,
            mounted_at,
        } = inspected;
        let config = file.config;
        let healthcheck = config.healthcheck.map(|check| Healthcheck {
            test: check.test,
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        });
        Self {
            references,
            digest,
            id: config_blob.digest,
            created: file.created,
            used_at: Timestamp::try_from(used).unwrap_or_default().to_string(),
            author: file.author,
            os: file.os.clone(),
            architecture: file.architecture.clone(),
            platform: Platform {
                os: file.os,
                architecture: file.architecture,
                variant: file.variant,
            },
            config: Config {
                entrypoint: config.entrypoint,
                cmd: config.cmd,
                env: config.env,
                working_dir: config.working_dir,
                user: config.user,
                stop_signal: config.stop_signal,
                volumes: config.volumes,
                exposed_ports: config.exposed_ports,
                labels: config.labels,
                healthcheck,
            },
            diff_ids: file.diff_ids,
            manifest: Manifest {
                schema_version: 2,
                media_type: "application/vnd.oci.image.manifest.v1+json",
                config: config_blob.into(),
                layers: layer_blobs.into_iter().map(Descriptor::from).collect(),
            },
            size: Size {
                bytes: size.bytes,
                blob_bytes: size.blob_bytes,
                shared_bytes: size.shared_bytes,
                unique_bytes: size.unique_bytes,
            },
            layers: layers.into_iter().map(Layer::from).collect(),
            history_entries: file.history.len(),
            in_use: in_use.into_iter().map(Reason::from).collect(),
            mounted_at: mounted_at.map(|path| path.display().to_string()),
        }
    }
}

/// `image history --json`.
#[derive(Debug, Serialize)]
pub struct History {
    schema: u32,
    digest: Digest,
    /// The last step first.
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    empty_layer: bool,
    diff_id: Option<Digest>,
    /// The unpacked layer.
    bytes: Option<u64>,
    blob_bytes: Option<u64>,
}

impl History {
    /// That of the image.
    pub fn new(digest: Digest, steps: Vec<describe::Step>) -> Self {
        let steps = steps.into_iter().map(|step| Step {
            created: step.entry.created,
            created_by: step.entry.created_by,
            author: step.entry.author,
            comment: step.entry.comment,
            empty_layer: step.entry.empty_layer,
            diff_id: step.diff_id,
            bytes: step.bytes,
            blob_bytes: step.blob_bytes,
        });
        Self {
            schema: SCHEMA,
            digest,
            steps: steps.collect(),
        }
    }
}

/// `image diff --json`.
#[derive(Debug, Serialize)]
pub struct Differences {
    schema: u32,
    changes: Vec<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    /// `added`, `changed` or `deleted`.
    kind: &'static str,
    /// Bytes that are not UTF-8 are replaced.
    path: String,
}

impl Differences {
    /// These.
    pub fn new(changes: &[describe::Changed]) -> Self {
        let changes = changes.iter().map(|changed| Difference {
            kind: changed.difference.word(),
            path: changed.path.display().to_string(),
        });
        Self {
            schema: SCHEMA,
            changes: changes.collect(),
        }
    }
}
