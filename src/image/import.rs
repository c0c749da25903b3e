// SPDX-License-Identifier: Apache-2.0
//! Importing a root file system: an archive of one becomes an image of one layer.
//!
//! The layer's blob is the archive as it came, so importing the same bytes twice stores them once.

use std::io::Read;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::change::Expected;
use super::config;
use super::manifest::{CONFIG_TYPE, Descriptor, Manifest};
use super::users::Writable;
use super::{Digest, Reference};
use crate::instruction::{self, Instruction};
use crate::platform::Platform;

/// What the image says besides its content.
#[derive(Debug, Default)]
pub struct Labels {
    /// Its name.
    pub name: Option<Reference>,
    /// What to change in its config, in this order.
    pub instructions: Vec<Instruction>,
    /// Why it was made, for its history.
    pub message: Option<String>,
    /// When, RFC 3339.
    pub created: String,
    /// Where its content came from, for its history.
    pub source: String,
}

/// An image that was imported.
#[derive(Debug)]
pub struct Imported {
    /// The manifest's digest.
    pub digest: Digest,
    /// The config's.
    pub id: Digest,
    /// What people should know about the content.
    pub warnings: Vec<String>,
}

/// Makes an image of the archive that `tar` gives, compressed with gzip or zstd or not at all.
pub fn import(
    store: &Writable,
    tar: impl Read,
    labels: &Labels,
    progress: &dyn Fn(u64),
) -> anyhow::Result<Imported> {
    let change = store.change()?;
    let layer = change.add_layer(tar, &Expected::default(), progress)?;
    let platform = Platform::local();
    let mut document = json!({
        "created": labels.created,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        "history": [{
            "created": labels.created,
            "created_by": format!("wharf image import {}", labels.source),
        }],
    });
    if let Some(fields) = document.as_object_mut() {
        if let Some(variant) = platform.variant {
            fields.insert("variant".to_owned(), Value::from(variant));
        }
        if let Some(message) = &labels.message
            && let Some(step) = fields.get_mut("history").and_then(|h| h.get_mut(0))
            && let Some(step) = step.as_object_mut()
        {
            step.insert("comment".to_owned(), Value::from(message.as_str()));
        }
        instruction::apply(&labels.instructions, fields)?;
    }
    let config_bytes = serde_json::to_vec(&document)?;
    // What the instructions made must be a config to everybody else too.
    config::parse(&config_bytes).context("changing the image's config")?;
    let id = change.add_document(&config_bytes)?;
    let config = Descriptor {
        media_type: CONFIG_TYPE.to_owned(),
        digest: id,
        size: config_bytes.len() as u64,
        platform: None,
        annotations: None,
    };
    let manifest = Manifest::new(config, vec![layer.descriptor]);
    let digest = change.add_document(&serde_json::to_vec(&manifest)?)?;
    change.commit(labels.name.as_slice(), &digest)?;
    Ok(Imported {
        digest,
        id,
        warnings: layer.notes.warnings(&layer.diff_id),
    })
}
