// SPDX-License-Identifier: Apache-2.0
//! Why there is no container: what a start that gives up tells the clean-up.
//!
//! `/run/wharf/failures/NAME`, beside the run-time directory, which a start that fails removes.

use serde::{Deserialize, Serialize};

use crate::engine::container::Container;
use crate::sys;

/// What a start wrote down when it gave up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The run that failed.
    #[serde(default)]
    pub(crate) invocation_id: Option<String>,
    /// One line on why.
    pub(crate) message: String,
}

/// Writes down why there is no container.
pub(crate) fn write(container: Container<'_>, message: &str) -> anyhow::Result<()> {
    let path = container.paths().container_failure(container.name());
    if let Some(dir) = path.parent() {
        sys::fs::ensure_dir(dir, 0o700)?;
    }
    let failure = Failure {
        invocation_id: std::env::var("INVOCATION_ID").ok(),
        message: message.to_owned(),
    };
    let json = serde_json::to_vec(&failure)?;
    Ok(sys::fs::write_atomic(
        &path,
        &json,
        0o600,
        sys::fs::Durability::Memory,
    )?)
}

/// What was written down, if anything readable was.
pub(crate) fn read(container: Container<'_>) -> Option<Failure> {
    let path = container.paths().container_failure(container.name());
    let text = sys::fs::read_to_string(&path).ok()?;
    serde_json::from_str(&text).ok()
}

/// Removes it; absent is success.
pub(crate) fn remove(container: Container<'_>) -> anyhow::Result<()> {
    let path = container.paths().container_failure(container.name());
    Ok(sys::fs::remove_file(&path)?)
}
