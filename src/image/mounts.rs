// SPDX-License-Identifier: Apache-2.0
//! Images mounted read-only below `/run/wharf/mounts/images`, one directory per manifest.
//!
//! What is mounted is the record of it: nothing else is written down, so nothing can disagree.
//! A mounted image counts as in use.

use std::path::PathBuf;

use super::{Digest, Image};
use crate::paths::Paths;
use crate::storage::view;
use crate::sys;

fn dir(paths: &Paths) -> PathBuf {
    paths.runtime().join("mounts/images")
}

/// Where the image with this manifest is mounted, if it is.
pub fn target(paths: &Paths, digest: &Digest) -> PathBuf {
    dir(paths).join(digest.hex())
}

/// Mounts the image and returns where; the same place when it is mounted already.
pub fn mount(paths: &Paths, image: &Image) -> anyhow::Result<PathBuf> {
    let target = target(paths, &image.digest.parse()?);
    view::mount(&image.layers, &dir(paths).join(".empty"), &target)?;
    Ok(target)
}

/// Unmounts the image; says whether it was mounted.
pub fn unmount(paths: &Paths, digest: &Digest) -> anyhow::Result<bool> {
    let target = target(paths, digest);
    let was_mounted = view::is_mounted(&target);
    view::unmount(&target)?;
    Ok(was_mounted)
}

/// The manifests of the images that are mounted, sorted.
pub fn mounted(paths: &Paths) -> anyhow::Result<Vec<Digest>> {
    let names = sys::fs::list_dir(&dir(paths))?;
    let digests = names
        .iter()
        .filter_map(|name| Digest::parse_hex(name.to_str()?).ok());
    Ok(digests
        .filter(|digest| view::is_mounted(&target(paths, digest)))
        .collect())
}
