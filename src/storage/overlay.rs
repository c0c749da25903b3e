// SPDX-License-Identifier: Apache-2.0
//! Mounting a container's root file system.
//!
//! One overlay per container: image layers below, one writable directory on top. It is mounted in
//! the engine's private mount namespace, so the host never sees it and it disappears with the
//! last process that does; what has to be removed afterwards is the writable directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::name::ContainerName;
use crate::paths::Paths;
use crate::sys;

/// What becomes of what the container writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upper {
    /// On disk, removed when the container ends.
    Ephemeral,
    /// On disk, kept for the next start.
    Persistent,
    /// In memory: a read-only container writes nothing, but mount points are made in it.
    Memory,
}

/// A mounted root file system. Detached on drop.
///
/// That is right on success too: once the OCI runtime has created the container, the container's
/// own mount namespace holds the overlay, and the engine's must not outlive it.
#[must_use = "dropping a Rootfs unmounts it"]
#[derive(Debug)]
pub struct Rootfs {
    target: PathBuf,
}

impl Rootfs {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.target
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Err(err) = sys::mount::detach(&self.target) {
            tracing::warn!("unmounting '{}', ignoring: {err}", self.target.display());
        }
    }
}

fn upper_dir(paths: &Paths, name: &ContainerName, upper: Upper) -> PathBuf {
    match upper {
        Upper::Ephemeral => paths.container_state(name).join("upper"),
        Upper::Persistent => paths.container_state(name).join("kept"),
        Upper::Memory => paths.container_runtime(name).join("upper"),
    }
}

/// The directories of what a container writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    /// The upper directory of its overlay.
    pub diff: PathBuf,
    /// overlayfs's own.
    pub work: PathBuf,
}

/// Where a running container writes; none if its root is a directory of the host.
///
/// Only what is kept is there while it does not run, so the others tell by being there.
pub fn of_running(paths: &Paths, name: &ContainerName) -> Option<Writable> {
    [Upper::Memory, Upper::Ephemeral, Upper::Persistent]
        .into_iter()
        .map(|upper| writable(paths, name, upper))
        .find(|writable| writable.diff.is_dir())
}

/// Where a container with `persist = true` writes, made if it has not run yet; `top` is the
/// topmost layer.
pub fn ensure_kept(
    paths: &Paths,
    name: &ContainerName,
    top: Option<&PathBuf>,
) -> anyhow::Result<Writable> {
    let kept = writable(paths, name, Upper::Persistent);
    sys::fs::ensure_dir(&kept.work, 0o700)?;
    ensure_top(&kept.diff, top)?;
    Ok(kept)
}

fn writable(paths: &Paths, name: &ContainerName, upper: Upper) -> Writable {
    let dir = upper_dir(paths, name, upper);
    Writable {
        diff: dir.join("diff"),
        work: dir.join("work"),
    }
}

/// Mounts `layers`, lowest first, for the container `name`.
pub fn mount(
    paths: &Paths,
    name: &ContainerName,
    layers: &[PathBuf],
    upper: Upper,
) -> anyhow::Result<Rootfs> {
    if layers.len() > sys::mount::OVERLAY_LAYERS_MAX {
        bail!(
            "the image of container '{name}' has {} layers, more than the {} that can be mounted",
            layers.len(),
            sys::mount::OVERLAY_LAYERS_MAX
        );
    }
    let target = paths.container_runtime(name).join("rootfs");
    let Writable { diff, work } = writable(paths, name, upper);
    for path in [&target, &work] {
        sys::fs::ensure_dir(path, 0o700)?;
    }
    ensure_top(&diff, layers.last())?;
    sys::mount::overlay(layers, &diff, &work, &target)
        .with_context(|| format!("mounting rootfs of container '{name}'"))?;
    Ok(Rootfs { target })
}

/// Makes the writable directory with owner and mode of the top layer's root: it is what the
/// container sees as `/`. Out of reach of others it is by the state directory's own mode.
fn ensure_top(diff: &Path, top: Option<&PathBuf>) -> anyhow::Result<()> {
    if diff.is_dir() {
        return Ok(());
    }
    sys::fs::ensure_dir(diff, 0o755)?;
    let Some(top) = top else {
        return Ok(());
    };
    let like = || format!("making '{}' like '{}'", diff.display(), top.display());
    let root = std::fs::metadata(top).with_context(like)?;
    std::os::unix::fs::chown(diff, Some(root.uid()), Some(root.gid())).with_context(like)?;
    std::fs::set_permissions(diff, root.permissions()).with_context(like)
}

/// Uses the host directory `source` as the root file system of container `name`.
pub fn bind(paths: &Paths, name: &ContainerName, source: &Path) -> anyhow::Result<Rootfs> {
    let target = paths.container_runtime(name).join("rootfs");
    sys::fs::ensure_dir(&target, 0o700)?;
    sys::mount::bind(source, &target)
        .with_context(|| format!("mounting rootfs of container '{name}'"))?;
    Ok(Rootfs { target })
}

/// Removes what an ended container wrote and is not to keep; absent is success.
///
/// The directory is renamed first, so that a start that comes meanwhile has an empty one, and a
/// removal that is killed half-way is finished by the next.
pub fn remove_ephemeral(paths: &Paths, name: &ContainerName) -> anyhow::Result<()> {
    let state = paths.container_state(name);
    for entry in sys::fs::list_dir(&state)? {
        if entry.as_encoded_bytes().starts_with(b".trash-") {
            sys::fs::remove_tree(&state.join(entry))?;
        }
    }
    let dir = upper_dir(paths, name, Upper::Ephemeral);
    let trash = state.join(format!(".trash-{}", std::process::id()));
    match std::fs::rename(&dir, &trash) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err).with_context(|| format!("removing '{}'", dir.display())),
        Ok(()) => Ok(sys::fs::remove_tree(&trash)?),
    }
}
