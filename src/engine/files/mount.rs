// SPDX-License-Identifier: Apache-2.0
//! `wharf mount`: containers' file systems to look at, below `/run/wharf/mounts/containers`.
//!
//! Read-only, because links in them lead anywhere on the host for whoever looks from there; writing
//! is `cp`'s part. What is mounted is the record of it. A view keeps nothing from happening: it goes
//! when its container starts, ends or is removed, whoever is in it (threats K9).

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::engine::container::Container;
use crate::engine::files::tree::Tree;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::sys;
use crate::sys::mount::detached::is_mount_point;

fn dir(paths: &Paths) -> PathBuf {
    paths.runtime().join("mounts/containers")
}

/// Where the container is mounted, if it is.
pub fn target(container: Container<'_>) -> PathBuf {
    dir(container.paths()).join(container.name().as_str())
}

/// Mounts the container's file system, without its volumes, and returns where; the same place when
/// it is mounted already.
pub fn mount(container: Container<'_>) -> anyhow::Result<PathBuf> {
    let target = target(container);
    let mount = || -> anyhow::Result<()> {
        let tree = Tree::find(container)?;
        if is_mount_point(&target)? {
            return Ok(());
        }
        let view = tree.file_system()?;
        sys::fs::ensure_dir(&target, 0o700)?;
        view.attach_for_reading(&target)?;
        if tree.has_ended() {
            // Its clean-up may have been before us.
            unmount(container)?;
            bail!("it has ended");
        }
        Ok(())
    };
    let name = container.name();
    mount().with_context(|| format!("mounting container '{name}'"))?;
    Ok(target)
}

/// Unmounts the container; says whether it was mounted.
pub fn unmount(container: Container<'_>) -> anyhow::Result<bool> {
    let target = target(container);
    let unmount = || -> anyhow::Result<bool> {
        let was_mounted = is_mount_point(&target)?;
        sys::mount::detach(&target)?;
        sys::fs::remove_empty_dirs(&target, container.paths().runtime())?;
        Ok(was_mounted)
    };
    let name = container.name();
    unmount().with_context(|| format!("unmounting container '{name}'"))
}

/// The containers that are mounted, sorted.
pub fn mounted(paths: &Paths) -> anyhow::Result<Vec<ContainerName>> {
    let mut mounted = Vec::new();
    for name in sys::fs::list_dir(&dir(paths))? {
        let Some(name) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if is_mount_point(&target(Container::new(paths, &name)))? {
            mounted.push(name);
        }
    }
    Ok(mounted)
}
