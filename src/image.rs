// SPDX-License-Identifier: Apache-2.0
//! Images: content by digest, references to it, and archives that bring it.
//!
//! Manifests and configs are parsed into types at this edge, and of a config only what an image
//! may influence is kept (hostile-inputs C1). Unpacking layers is `storage`'s part; nothing here
//! knows containers.

pub mod archive;
pub mod change;
pub mod check;
pub mod config;
pub mod damage;
mod describe;
mod fetch;
mod find;
mod flight;
pub mod import;
mod lease;
pub mod load;
pub mod manifest;
pub mod mounts;
pub mod platform;
pub mod pull;
pub mod push;
mod record;
pub mod remove;
pub mod repair;
pub mod save;
pub mod size;
pub mod store;
mod stream;
mod sweep;
pub mod used;
pub mod users;
pub mod writer;

use std::path::PathBuf;

pub use self::config::Config;
pub use crate::digest::Digest;
pub use crate::reference::Reference;

/// An image that is ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The reference it was found by, normalised.
    pub reference: String,
    /// The manifest's digest.
    pub digest: String,
    /// What the image says about its process.
    pub config: Config,
    /// Its layers' trees, lowest first: lower directories of an overlay.
    pub layers: Vec<PathBuf>,
    /// What these trees were when the image was looked up.
    stamps: Vec<users::Stamp>,
}
