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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::paths::Paths;

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/records");
        let versions = sys::fs::list_dir(&written).unwrap();
        assert!(!versions.is_empty());
        for version in versions {
            let root = tempfile::tempdir().unwrap();
            let paths = Paths::system(root.path());
            let name = "broken".parse().unwrap();
            let container = Container::new(&paths, &name);
            assert!(read(container).is_none());
            let text = written.join(&version).join("failures/broken");
            let text = sys::fs::read_to_string(&text).unwrap();
            let to = paths.container_failure(&name);
            sys::fs::ensure_dir(to.parent().unwrap(), 0o700).unwrap();
            sys::fs::write_atomic(&to, text.as_bytes(), 0o600, sys::fs::Durability::Memory)
                .unwrap();
            let failure = read(container).unwrap();
            assert!(failure.invocation_id.is_some(), "{version:?}");
            assert!(
                failure.message.contains("'localhost/none:1'"),
                "{version:?}"
            );
            remove(container).unwrap();
            assert!(read(container).is_none());
        }
    }
}
