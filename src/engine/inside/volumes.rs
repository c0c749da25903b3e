// SPDX-License-Identifier: Apache-2.0
//! Volumes and mount points of a container that is about to start.
//!
//! Sources are found or made, and every target gets its mount point in the root file system, made
//! by descriptor below it: a link of the image never leads one of them out (threats X3, X5).
//! Targets inside another mount are left to the runtime, which sees that mount.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::definition::{Definition, Propagation, Volume, VolumeSource};
use crate::engine::inside::payload::Payload;
use crate::engine::spec::mounts::Bind;
use crate::image::Image;
use crate::paths::Paths;
use crate::storage::overlay::Upper;
use crate::storage::volume;
use crate::sys;
use crate::sys::root::Root;

/// What volumes are resolved against.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// Where everything is.
    pub paths: &'a Paths,
    /// The container.
    pub definition: &'a Definition,
    /// What becomes of its writable layer, and so of its anonymous volumes.
    pub upper: Upper,
    /// The mounted root file system.
    pub root: &'a Root,
    /// What it is mounted from; none for a directory of the host.
    pub image: Option<&'a Image>,
    /// What runs in it: its user is the owner for `U`, its image declares volumes.
    pub payload: &'a Payload,
}

/// Finds or makes every volume, those of the image that the definition does not mention last.
pub(crate) fn resolve(site: &Site<'_>) -> anyhow::Result<Vec<Bind>> {
    let storage = &site.definition.storage;
    let mut binds = Vec::new();
    for entry in &storage.volumes {
        let source = source_of(site, entry)
            .with_context(|| format!("preparing volume '{}'", entry.target))?;
        if entry.chown {
            volume::give_to(&source, site.payload.user.uid, site.payload.user.gid)?;
        }
        binds.push(Bind::new(entry, source));
    }
    for target in &site.payload.image_volumes {
        let entry = Volume {
            source: VolumeSource::Anonymous,
            target: target.clone(),
            read_only: false,
            propagation: Propagation::default(),
            flags: Vec::new(),
            chown: false,
            idmap: false,
        };
        let source = source_of(site, &entry)
            .with_context(|| format!("preparing the image's volume '{target}'"))?;
        binds.push(Bind::new(&entry, source));
    }
    make_mount_points(site, &binds)?;
    Ok(binds)
}

fn source_of(site: &Site<'_>, entry: &Volume) -> anyhow::Result<PathBuf> {
    let dir = content_of(site, &entry.target)?;
    // No record says yet that the image is in use, and it may be removed while it is copied.
    let check = || site.image.map_or(Ok(()), Image::require_unchanged);
    let content = volume::Content {
        dir: dir.as_ref().map(|dir| dir.as_fd()),
        check: &check,
    };
    match &entry.source {
        VolumeSource::Bind(path) if path.exists() => Ok(path.clone()),
        VolumeSource::Bind(path) => bail!(
            "'{}' does not exist on the host: make it, or name a volume instead of a path",
            path.display()
        ),
        VolumeSource::Named(name) => volume::ensure_named(site.paths, name, content),
        VolumeSource::Anonymous => volume::ensure_anonymous(
            site.paths,
            &site.definition.name,
            site.upper,
            &entry.target,
            content,
        ),
    }
}

/// What the image has there; a target that is no directory in it has nothing to copy.
fn content_of(site: &Site<'_>, target: &str) -> sys::Result<Option<OwnedFd>> {
    match site.root.open_dir(Path::new(target)) {
        Ok(dir) => Ok(Some(dir)),
        Err(err) if sys::is_of_machine(&err.cause) => Err(err),
        Err(_) => Ok(None),
    }
}

fn make_mount_points(site: &Site<'_>, binds: &[Bind]) -> anyhow::Result<()> {
    // The kernel's file systems must be mounted where their names say (threats X3, X4).
    for fixed in ["/proc", "/sys", "/dev"] {
        if let Ok(target) = site.root.read_link(Path::new(fixed)) {
            bail!(
                "'{fixed}' is a link to '{}' in the root file system, where it must be a directory",
                target.display().to_string().escape_debug()
            );
        }
        site.root.ensure_dir(Path::new(fixed), 0o755)?;
    }
    let storage = &site.definition.storage;
    let tmpfs = storage.tmpfs.iter().map(|entry| entry.target.as_str());
    let targets: Vec<&str> = binds
        .iter()
        .map(|b| b.target.as_str())
        .chain(tmpfs)
        .collect();
    for target in &targets {
        let path = Path::new(target);
        let inside = |other: &&str| path != Path::new(other) && path.starts_with(other);
        let kernel = ["/proc", "/sys", "/dev"].iter().any(inside);
        if kernel || targets.iter().any(inside) {
            continue;
        }
        let is_file = binds
            .iter()
            .any(|bind| bind.target == *target && !bind.source.is_dir());
        let made = match is_file {
            true => site.root.ensure_file(path),
            false => ensure_dir(site, path),
        };
        made.with_context(|| format!("making the mount point '{target}' in the container"))?;
    }
    Ok(())
}

/// Makes a directory to mount on. runc 1.1 gives a tmpfs the mode of what it is mounted on,
/// whatever `mode=` says: one that is made for it has that mode.
fn ensure_dir(site: &Site<'_>, path: &Path) -> sys::Result<()> {
    let tmpfs = &site.definition.storage.tmpfs;
    let tmpfs = tmpfs.iter().find(|entry| Path::new(&entry.target) == path);
    if let Some(parent) = path.parent() {
        site.root.ensure_dir(parent, 0o755)?;
    }
    let mode = tmpfs.map_or(0o755, |entry| entry.mode);
    site.root.ensure_dir(path, mode).map(drop)
}
