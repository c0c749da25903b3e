// SPDX-License-Identifier: Apache-2.0
//! Users and groups, looked up in the container's own passwd(5) and group(5).

/// Who the first process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub additional_gids: Vec<u32>,
    /// Home directory, where passwd(5) has an entry that names an absolute one.
    pub home: Option<String>,
}
