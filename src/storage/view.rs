// SPDX-License-Identifier: Apache-2.0
//! Layers mounted read-only for people to look at, without a container.
//!
//! The mount is in the caller's mount namespace and stays until it is undone or the machine goes
//! down. Devices and setuid programs of an image have no effect in it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::sys;
use crate::sys::mount::detached::is_mount_point;

/// Mounts `layers`, lowest first, on the directory `target`, which is made; a mount that is there
/// already stays.
pub fn mount(layers: &[PathBuf], target: &Path) -> anyhow::Result<()> {
    if is_mount_point(target)? {
        return Ok(());
    }
    // One for the directory below.
    let most = sys::mount::OVERLAY_LAYERS_MAX - 1;
    ensure!(
        layers.len() <= most,
        "{} layers, more than the {most} that can be mounted",
        layers.len()
    );
    sys::fs::ensure_dir(target, 0o700)?;
    // An overlay without a writable directory needs two layers; the directory that it is mounted
    // on is empty, and as good as any.
    let mut all = vec![target.to_owned()];
    all.extend_from_slice(layers);
    sys::mount::overlay_read_only(&all, target)
        .with_context(|| format!("mounting on '{}'", target.display()))
}

/// Undoes [`mount`] and removes the directory and its parents below `keep`, as far as they are
/// empty; not mounted is success.
///
/// # Errors
///
/// Somebody works in it.
pub fn unmount(target: &Path, keep: &Path) -> anyhow::Result<()> {
    if is_mount_point(target)? {
        sys::mount::unmount(target).with_context(|| {
            format!(
                "unmounting '{}'; leave the directory and close its files",
                target.display()
            )
        })?;
    }
    sys::fs::remove_empty_dirs(target, keep)
        .with_context(|| format!("removing '{}'", target.display()))
}
