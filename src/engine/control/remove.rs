// SPDX-License-Identifier: Apache-2.0
//! Removing what is kept of a container that does not run.
//!
//! That is its directory below /var/lib/wharf: exit history, a persistent writable layer, artifacts. The
//! definition is the administrator's and stays, as a unit file does.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::engine::control::lifecycle::Container;
use crate::engine::files::mount;
use crate::engine::view::definitions::{self, Found};
use crate::sys;
use crate::systemd::unit::ActiveState;

/// Removes it, under the container's lock, and returns the definition that is left, if any.
///
/// # Errors
///
/// The container runs, or is about to be started again.
pub fn remove(container: &Container<'_>) -> anyhow::Result<Option<PathBuf>> {
    let name = container.name;
    let seen = container.observe()?;
    if seen.state.is_live() || seen.unit.active() == ActiveState::Activating {
        bail!(
            "container '{name}' is {}; 'wharf stop {name}' first",
            seen.state
        );
    }
    let lock = container.paths.container_lock(name);
    let Some(_lock) = sys::fs::try_lock(&lock)? else {
        bail!("container '{name}' is being started or cleaned up; try again when that is over");
    };
    mount::unmount(container.paths, name)?;
    let kept = container.paths.container_state(name);
    sys::fs::remove_tree(&kept)
        .with_context(|| format!("removing what is kept of container '{name}'"))?;
    // Else its last failure would outlive it.
    if seen.unit.active() == ActiveState::Failed {
        container.manager.reset_failed(&name.unit())?;
    }
    Ok(match definitions::find(container.paths, name) {
        Found::File(path) | Found::Masked(path) => Some(path),
        Found::Absent => None,
    })
}
