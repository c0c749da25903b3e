// SPDX-License-Identifier: Apache-2.0
//! Removing what is kept of a container that does not run.
//!
//! That is its directory below /var/lib/wharf: exit history, a persistent writable layer, artifacts. The
//! definition is the administrator's and stays, as a unit file does.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::engine::control::lifecycle::Managed;
use crate::engine::files::mount;
use crate::engine::view::definitions::{self, Found};
use crate::sys;
use crate::systemd::unit::ActiveState;

/// Removes it, under the container's lock, and returns the definition that is left, if any.
///
/// # Errors
///
/// The container runs, or is about to be started again.
pub fn remove(managed: &Managed<'_>) -> anyhow::Result<Option<PathBuf>> {
    let container = managed.container;
    let name = container.name();
    let seen = managed.observe()?;
    if seen.state.is_live() || seen.unit.active() == ActiveState::Activating {
        bail!(
            "container '{name}' is {}; 'wharf stop {name}' first",
            seen.state
        );
    }
    let Some(_lock) = container.try_lock()? else {
        bail!("container '{name}' is being started or cleaned up; try again when that is over");
    };
    mount::unmount(container)?;
    let kept = container.paths().container_state(name);
    sys::fs::remove_tree(&kept)
        .with_context(|| format!("removing what is kept of container '{name}'"))?;
    // Else its last failure would outlive it.
    if seen.unit.active() == ActiveState::Failed {
        managed.manager.reset_failed(&name.unit())?;
    }
    Ok(match definitions::find(container) {
        Found::File(path) | Found::Masked(path) => Some(path),
        Found::Absent => None,
    })
}
