// SPDX-License-Identifier: Apache-2.0
//! The reload command of a definition (`ExecReload=`): run in the container, to its end.

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::definition::value::Reload;
use crate::definition::{Definition, load};
use crate::engine::container::Container;
use crate::runtime::Runtime;

/// Longest that a reload command may take; systemd's own limit is `TimeoutStartSec=`.
const DEADLINE: Duration = Duration::from_secs(80);

/// Runs the reload command of a running container, as the user that it runs as.
///
/// # Errors
///
/// The definition has no reload command, the container does not run, or the command fails.
pub fn run(container: Container<'_>) -> anyhow::Result<()> {
    let name = container.name();
    let definition: Definition = load::load(container.paths(), name)?;
    let command = match &definition.lifecycle.reload {
        Some(Reload::Command(command)) => command,
        Some(Reload::Signal(_)) | None => {
            bail!("the definition of container '{name}' has no reload command")
        }
    };
    let recorded = container.record();
    let record = recorded
        .known()
        .with_context(|| format!("container '{name}' is not running"))?;
    Runtime::at(record.runtime.clone(), container.paths())
        .exec(&record.id, command, DEADLINE)
        .with_context(|| format!("reloading container '{name}'"))
}
