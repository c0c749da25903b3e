// SPDX-License-Identifier: Apache-2.0
//! Definitions: what the administrator wrote, merged and checked.
//!
//! A fragment (one parsed file, as written) → `merge` → `validate` → a definition of some [`kind`]. Only
//! `validate` makes one, so whoever holds one holds typed values: no control characters, no relative
//! paths, no name that is not a name. All kinds go the same way; what is different about each is in
//! [`kinds`], one file for each. The most used ones, those of containers, are named here too.

pub mod checker;
pub mod cycle;
mod directive;
mod entry;
mod fragment;
pub mod graph;
pub mod keys;
pub mod kind;
pub mod kinds;
pub mod load;
pub mod merge;
pub mod problem;
pub mod schema;
mod take;
mod unknown;
pub mod validate;
pub mod value;

pub use self::kinds::container::lifecycle::{Lifecycle, Passthrough, Timeout};
pub use self::kinds::container::process::Process;
pub use self::kinds::container::resources::{Pids, Resources};
pub use self::kinds::container::security::{CapabilitySet, Seccomp, Security, Unmask};
pub use self::kinds::container::storage::{
    Device, MountFlag, Propagation, Storage, Tmpfs, Volume, VolumeSource,
};
pub use self::kinds::container::{Definition, Hooks, Log, RateLimit, Root};
pub use self::value::hook::Hook;
pub use self::value::words::{
    LogDriver, Network, Notify, OomPolicy, PullPolicy, Restart, ServiceType,
};

/// Where a key was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The key's table, empty at top level.
    pub table: &'static str,
    /// The key.
    pub name: &'static str,
    /// Index into the definition's sources.
    pub file: usize,
    /// Line, from 1.
    pub line: u32,
}
