// SPDX-License-Identifier: Apache-2.0
//! The image store: what is in it, what is removed from it, what is damaged.

use jiff::Timestamp;
use serde::Serialize;

use super::SCHEMA;
use crate::digest::Digest;
use crate::engine::images::check::{self, Repair};
use crate::engine::images::needs;
use crate::engine::images::prune::{self, Act};
use crate::engine::images::{listing, mounts};
use crate::name::ContainerName;
use crate::reference::Reference;

/// `image ls --json`.
#[derive(Debug, Serialize)]
pub struct List {
    schema: u32,
    /// A name each; an image of two names is there twice.
    images: Vec<Listed>,
    /// Files of references that cannot be read.
    damaged: Vec<Damaged>,
    total: Total,
}

/// What is listed, everything that is shared counted once.
#[derive(Debug, Serialize)]
struct Total {
    images: usize,
    /// Of the whole store when nothing was left out.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Damaged {
    reference: String,
    problem: String,
}

/// One name of an image.
#[derive(Debug, Serialize)]
struct Listed {
    reference: Option<Reference>,
    /// The manifest's.
    digest: Digest,
    /// The config's digest; none when the image is damaged.
    id: Option<Digest>,
    created: Option<String>,
    /// When it was last started, loaded, pulled or named.
    used_at: String,
    layers: usize,
    #[serde(flatten)]
    size: Size,
    /// Why the image cannot be run.
    problem: Option<String>,
}

/// What an image takes up, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    /// Its unpacked layers.
    pub(super) bytes: u64,
    /// Its manifest, its config and its layers as they came.
    pub(super) blob_bytes: u64,
    /// What other images need too.
    pub(super) shared_bytes: u64,
    /// What only this image needs.
    pub(super) unique_bytes: u64,
}

impl From<listing::List> for List {
    fn from(list: listing::List) -> Self {
        let listing::List {
            images,
            damaged,
            count,
            bytes,
        } = list;
        let damaged = damaged.into_iter().map(|found| Damaged {
            reference: found.shown,
            problem: found.problem,
        });
        Self {
            schema: SCHEMA,
            images: images.into_iter().map(Listed::from).collect(),
            damaged: damaged.collect(),
            total: Total {
                images: count,
                bytes,
            },
        }
    }
}

impl From<listing::Listed> for Listed {
    fn from(listed: listing::Listed) -> Self {
        let listing::Listed {
            reference,
            digest,
            id,
            created,
            used,
            layers,
            size,
            problem,
        } = listed;
        Self {
            reference,
            digest,
            id,
            created,
            used_at: Timestamp::try_from(used).unwrap_or_default().to_string(),
            layers,
            size: Size {
                bytes: size.bytes,
                blob_bytes: size.blob_bytes,
                shared_bytes: size.shared_bytes,
                unique_bytes: size.unique_bytes,
            },
            problem,
        }
    }
}

/// `image mount --json`.
#[derive(Debug, Serialize)]
pub struct Mounts {
    schema: u32,
    mounts: Vec<Mounted>,
}

#[derive(Debug, Serialize)]
struct Mounted {
    references: Vec<Reference>,
    digest: Digest,
    path: String,
}

impl Mounts {
    /// These.
    pub fn new(mounts: Vec<mounts::Mounted>) -> Self {
        let mounts = mounts.into_iter().map(|mount| {
            let mounts::Mounted {
                references,
                digest,
                path,
            } = mount;
            Mounted {
                references,
                digest,
                path: path.display().to_string(),
            }
        });
        Self {
            schema: SCHEMA,
            mounts: mounts.collect(),
        }
    }
}

/// `image unmount --json`.
#[derive(Debug, Serialize)]
pub struct Unmounted {
    schema: u32,
    unmounted: Vec<Digest>,
}

impl Unmounted {
    /// These.
    pub fn new(unmounted: Vec<Digest>) -> Self {
        Self {
            schema: SCHEMA,
            unmounted,
        }
    }
}

/// `image tag --json`.
#[derive(Debug, Serialize)]
pub struct Tagged<'a> {
    schema: u32,
    reference: &'a Reference,
    digest: Digest,
}

impl<'a> Tagged<'a> {
    /// The name, and the image that has it now.
    pub fn new(reference: &'a Reference, digest: Digest) -> Self {
        Self {
            schema: SCHEMA,
            reference,
            digest,
        }
    }
}

/// `image rm --json`.
#[derive(Debug, Serialize)]
pub struct Untagged {
    schema: u32,
    /// Names, or digests of images without one.
    removed: Vec<String>,
    freed_bytes: u64,
}

impl Untagged {
    /// These names.
    pub fn new(removed: Vec<String>, freed_bytes: u64) -> Self {
        Self {
            schema: SCHEMA,
            removed,
            freed_bytes,
        }
    }
}

/// `image prune --json`, and a part of [`Collected`].
#[derive(Debug, Serialize)]
pub struct Pruned {
    schema: u32,
    dry_run: bool,
    removed: Vec<Gone>,
    freed_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Gone {
    references: Vec<Reference>,
    digest: Digest,
}

impl Pruned {
    /// What was done, or would be.
    pub fn new(pruned: prune::Pruned, act: Act) -> Self {
        let removed = pruned.images.into_iter().map(|image| Gone {
            references: image.references,
            digest: image.digest,
        });
        Self {
            schema: SCHEMA,
            dry_run: act == Act::Tell,
            removed: removed.collect(),
            freed_bytes: pruned.freed,
        }
    }
}

/// `image gc --json`.
#[derive(Debug, Serialize)]
pub struct Collected {
    #[serde(flatten)]
    pruned: Pruned,
    /// Before.
    stored_bytes: u64,
    budget_bytes: u64,
    high_water_bytes: u64,
    low_water_bytes: u64,
    kept: Vec<Kept>,
}

#[derive(Debug, Serialize)]
struct Kept {
    digest: Digest,
    because: Vec<Reason>,
}

impl Collected {
    /// What was done, or would be.
    pub fn new(collected: prune::Collected, act: Act) -> Self {
        let prune::Collected {
            pruned,
            stored,
            marks,
            kept,
        } = collected;
        let kept = kept.into_iter().map(|(digest, reasons)| Kept {
            digest,
            because: reasons.into_iter().map(Reason::from).collect(),
        });
        Self {
            pruned: Pruned::new(pruned, act),
            stored_bytes: stored,
            budget_bytes: marks.budget,
            high_water_bytes: marks.high,
            low_water_bytes: marks.low,
            kept: kept.collect(),
        }
    }
}

/// Why an image stays: a word, or an object of the word and what it is about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Running(ContainerName),
    Mounted,
    Defined(ContainerName),
    Prefetched(ContainerName),
    Previous(ContainerName),
    Pinned(String),
}

impl From<needs::Reason> for Reason {
    fn from(reason: needs::Reason) -> Self {
        match reason {
            needs::Reason::Running(name) => Self::Running(name),
            needs::Reason::Mounted => Self::Mounted,
            needs::Reason::Defined(name) => Self::Defined(name),
            needs::Reason::Prefetched(name) => Self::Prefetched(name),
            needs::Reason::Previous(name) => Self::Previous(name),
            needs::Reason::Pinned(pattern) => Self::Pinned(pattern),
        }
    }
}

/// `image check --json`.
#[derive(Debug, Serialize)]
pub struct Checked {
    schema: u32,
    references: usize,
    blobs: usize,
    layers: usize,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    subject: String,
    problem: String,
    images: Vec<String>,
    repaired: bool,
    /// Why it was not repaired; `null` without `--repair`.
    reason: Option<String>,
}

impl From<check::Report> for Checked {
    fn from(report: check::Report) -> Self {
        let check::Report {
            references,
            blobs,
            layers,
            findings,
        } = report;
        Self {
            schema: SCHEMA,
            references,
            blobs,
            layers,
            findings: findings.into_iter().map(Finding::from).collect(),
        }
    }
}

impl From<check::Finding> for Finding {
    fn from(finding: check::Finding) -> Self {
        let check::Finding {
            subject,
            problem,
            images,
            repair,
        } = finding;
        Self {
            subject,
            problem,
            images,
            repaired: repair == Repair::Done,
            reason: match repair {
                Repair::Untried | Repair::Done => None,
                Repair::Failed(reason) => Some(reason),
            },
        }
    }
}
