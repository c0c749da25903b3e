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
use crate::sys::mount::detached::is_mount_point;

fn dir(paths: &Paths) -> PathBuf {
    paths.runtime().join("mounts/images")
}

/// Where the image with this manifest is mounted, if it is.
pub fn target(paths: &Paths, digest: &Digest) -> PathBuf {
    dir(paths).join(digest.hex())
}

/// Mounts the image and returns where; the same place when it is mounted already.
pub fn mount(paths: &Paths, image: &Image) -> anyhow::Result<PathBuf> {
    let target = target(paths, &image.digest);
    view::mount(&image.layers, &target)?;
    Ok(target)
}

/// Unmounts the image; says whether it was mounted.
pub fn unmount(paths: &Paths, digest: &Digest) -> anyhow::Result<bool> {
    let target = target(paths, digest);
    let was_mounted = is_mount_point(&target)?;
    view::unmount(&target, paths.runtime())?;
    Ok(was_mounted)
}

/// The manifests of the images that are mounted, sorted.
pub fn mounted(paths: &Paths) -> anyhow::Result<Vec<Digest>> {
    let mut mounted = Vec::new();
    for name in sys::fs::list_dir(&dir(paths))? {
        let digest = name.to_str().map(Digest::parse_hex);
        let Some(Ok(digest)) = digest else {
            continue;
        };
        if is_mount_point(&target(paths, &digest))? {
            mounted.push(digest);
        }
    }
    Ok(mounted)
}
