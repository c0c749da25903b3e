// SPDX-License-Identifier: Apache-2.0
//! Hooks: programs of the host that are run at points of a container's life.

use std::path::PathBuf;
use std::time::Duration;

/// One hook: `{ path = "/x", args = […], env = […], timeout = "10s" }`, or just the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute host path.
    pub path: PathBuf,
    /// Arguments, the program's name included, as in the OCI specification.
    pub args: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Deadline. Defaults to 10 s.
    pub timeout: Duration,
}
