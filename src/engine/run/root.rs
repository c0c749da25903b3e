// SPDX-License-Identifier: Apache-2.0
//! The root file system of a run: mounted in a mount namespace of the start's own.

use crate::definition::{Definition, Propagation, Root as RootSource};
use crate::engine::run::context::Start;
use crate::storage::overlay::{self, Rootfs, Upper};
use crate::sys;
use crate::sys::mount::Isolation;

/// Mounts it. The host's mount table does not change, and PID 1 does not look at it again.
pub(crate) fn mount(start: &Start<'_>) -> anyhow::Result<Rootfs> {
    let definition = &start.definition;
    let paths = start.container.paths();
    let dir = start.container.bundle();
    sys::fs::ensure_dir(&dir, 0o700)?;
    sys::mount::unshare_mounts(&dir, isolation(definition))?;
    match &definition.root {
        RootSource::Rootfs(source) => overlay::bind(paths, &definition.name, source),
        RootSource::Image(_) => {
            let layers = &start.image()?.layers;
            overlay::mount(paths, &definition.name, layers, upper(definition))
        }
    }
}

/// What the container mounts in a `shared` volume must reach the host.
fn isolation(definition: &Definition) -> Isolation {
    let shared = definition.storage.volumes.iter().any(|volume| {
        matches!(
            volume.propagation,
            Propagation::Shared | Propagation::Rshared
        )
    });
    if shared {
        Isolation::Shared
    } else {
        Isolation::Slave
    }
}

/// What becomes of what the container writes.
pub(crate) fn upper(definition: &Definition) -> Upper {
    match (definition.storage.read_only, definition.storage.persist) {
        (true, _) => Upper::Memory,
        (false, true) => Upper::Persistent,
        (false, false) => Upper::Ephemeral,
    }
}
