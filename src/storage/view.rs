// SPDX-License-Identifier: Apache-2.0
//! Layers mounted read-only for people to look at, without a container.
//!
//! The mount is in the caller's mount namespace and stays until it is undone or the machine goes
//! down. Devices and setuid programs of an image have no effect in it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::sys;

/// Mounts `layers`, lowest first, on the directory `target`, which is made; a mount that is there
/// already stays. `empty` is a directory for what is lacking: an overlay without a writable
/// directory needs two layers.
pub fn mount(layers: &[PathBuf], empty: &Path, target: &Path) -> anyhow::Result<()> {
    if is_mounted(target) {
        return Ok(());
    }
    // One for `empty`.
    let most = sys::mount::OVERLAY_LAYERS_MAX - 1;
    ensure!(
        layers.len() <= most,
        "{} layers, more than the {most} that can be mounted",
        layers.len()
    );
    for dir in [empty, target] {
        sys::fs::ensure_dir(dir, 0o700)?;
    }
    let mut all = vec![empty.to_owned()];
    all.extend_from_slice(layers);
    sys::mount::overlay_read_only(&all, target)
        .with_context(|| format!("mounting on '{}'", target.display()))
}

/// Undoes [`mount`] and removes the directory; not mounted is success.
///
/// # Errors
///
/// Somebody works in it.
pub fn unmount(target: &Path) -> anyhow::Result<()> {
    if is_mounted(target) {
        sys::mount::unmount(target).with_context(|| {
            format!(
                "unmounting '{}'; leave the directory and close its files",
                target.display()
            )
        })?;
    }
    match std::fs::remove_dir(target) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("removing '{}'", target.display()))
        }
        _ => Ok(()),
    }
}

/// Whether something is mounted on `target`: it is on another file system than its parent.
pub fn is_mounted(target: &Path) -> bool {
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let parent = target.parent().map(device);
    match (device(target), parent) {
        (Ok(own), Some(Ok(parent))) => own != parent,
        (Err(_), _) | (_, None | Some(Err(_))) => false,
    }
}
