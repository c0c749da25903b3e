// SPDX-License-Identifier: Apache-2.0
//! Files of containers: differences, mounts, artifacts, and the image that is made of them.

use jiff::Timestamp;
use serde::Serialize;

use super::SCHEMA;
use crate::digest::Digest;
use crate::engine::difference::Difference;
use crate::engine::files::artifact::Artifact;
use crate::engine::files::commit;
use crate::name::{ArtifactName, ContainerName};
use crate::reference::Reference;

/// `diff --json`.
#[derive(Debug, Serialize)]
pub struct Changes<'a> {
    schema: u32,
    name: &'a ContainerName,
    changes: Vec<Change>,
}

/// One path that differs.
#[derive(Debug, Serialize)]
pub struct Change {
    path: String,
    /// `added`, `changed` or `deleted`.
    kind: &'static str,
}

impl<'a> Changes<'a> {
    /// Those of the container; the paths as they are shown.
    pub fn new(
        name: &'a ContainerName,
        changes: impl Iterator<Item = (String, Difference)>,
    ) -> Self {
        let changes = changes.map(|(path, kind)| Change {
            path,
            kind: kind.word(),
        });
        Self {
            schema: SCHEMA,
            name,
            changes: changes.collect(),
        }
    }
}

/// `mount --json`.
#[derive(Debug, Serialize)]
pub struct Mounts {
    schema: u32,
    mounts: Vec<Mounted>,
}

impl Mounts {
    /// These.
    pub fn new(mounts: Vec<Mounted>) -> Self {
        Self {
            schema: SCHEMA,
            mounts,
        }
    }
}

/// A container that is mounted.
#[derive(Debug, Serialize)]
pub struct Mounted {
    /// The container.
    pub name: ContainerName,
    /// Where.
    pub path: String,
}

/// `artifact ls --json`.
#[derive(Debug, Serialize)]
pub struct Artifacts<'a> {
    schema: u32,
    name: &'a ContainerName,
    artifacts: Vec<Listed<'a>>,
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    name: &'a ArtifactName,
    bytes: u64,
    added_at: String,
}

impl<'a> Artifacts<'a> {
    /// Those of the container.
    pub fn new(name: &'a ContainerName, artifacts: &'a [Artifact]) -> Self {
        let artifacts = artifacts.iter().map(|artifact| Listed {
            name: &artifact.name,
            bytes: artifact.bytes,
            added_at: added_at(artifact),
        });
        Self {
            schema: SCHEMA,
            name,
            artifacts: artifacts.collect(),
        }
    }
}

/// When an artifact was added, RFC 3339, UTC.
pub fn added_at(artifact: &Artifact) -> String {
    let nanoseconds = i32::try_from(artifact.added.nanoseconds).unwrap_or(0);
    let time = Timestamp::new(artifact.added.seconds, nanoseconds);
    time.unwrap_or_default().to_string()
}

/// `commit --json`.
#[derive(Debug, Serialize)]
pub struct Committed<'a> {
    schema: u32,
    reference: Option<&'a Reference>,
    digest: Digest,
    id: Digest,
    diff_id: Digest,
    layer: Digest,
    layer_size: u64,
    warnings: Vec<String>,
}

impl<'a> Committed<'a> {
    /// This image.
    pub fn new(reference: Option<&'a Reference>, committed: commit::Committed) -> Self {
        let commit::Committed {
            digest,
            id,
            diff_id,
            layer,
            warnings,
        } = committed;
        Self {
            schema: SCHEMA,
            reference,
            digest,
            id,
            diff_id,
            layer: layer.digest,
            layer_size: layer.size,
            warnings: warnings.texts,
        }
    }
}
