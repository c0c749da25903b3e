// SPDX-License-Identifier: Apache-2.0
//! Typed values of definitions: sizes, signals, users, capabilities, limits.
//!
//! Each type is made by its parser only, which refuses what the kernel or systemd would take for
//! something else (threats C3, C5, C7, C9). Text in, value or reason out; no file access.

use std::path::PathBuf;

pub mod hook;
pub mod mount;
pub mod process;
pub mod quantity;
pub mod text;
pub mod words;

/// The candidate most like a text somebody mistyped, if one is near enough to be meant.
///
/// A near miss is at most a third of its letters away; a long text is no near miss, and comparing
/// it would cost its length times that of every candidate.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const TEXT_MAX_BYTES: usize = 40;
    if text.len() > TEXT_MAX_BYTES {
        return None;
    }
    let allowed = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

/// A signal: one of the names of signal(7) with `SIG`, or a real-time signal `SIGRTMIN+N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The name as systemd takes it, such as `SIGTERM` or `SIGRTMIN+3`.
    pub name: String,
    /// The number on this architecture.
    pub number: i32,
}

/// A capability by its full name, such as `CAP_NET_ADMIN` (capabilities(7)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Capability(pub(crate) String);

impl Capability {
    /// The full name, such as `CAP_NET_ADMIN`.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// `USER[:GROUP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRef {
    /// The user.
    pub user: IdOrName,
    /// The group. Defaults to the user's in the container's passwd(5), then to 0.
    pub group: Option<IdOrName>,
}

/// One entry of `group_add`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRef(pub IdOrName);

/// A number, or a name to look up in the container's own passwd(5) and group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdOrName {
    /// 0 to 4294967294: 4294967295 is "leave unchanged" to chown(2).
    Id(u32),
    /// A name.
    Name(String),
}

/// One entry of `env_file`; a leading `-` makes it optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Absolute path.
    pub path: PathBuf,
    /// Whether an absent file is no error.
    pub optional: bool,
}

/// An absolute path below /dev.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePath(pub PathBuf);

/// A resource limit by its OCI name, such as `RLIMIT_NOFILE` (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rlimit(pub String);

/// Soft and hard value; `u64::MAX` is infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// `reload`: what `systemctl reload` does to a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    /// Send this signal to the main process.
    Signal(Signal),
    /// Run this command in the container.
    Command(Vec<String>),
}

/// A bandwidth or operation limit of one block device (systemd.resource-control(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoLimit {
    /// Which of the four.
    pub kind: IoLimitKind,
    /// A device or any file on it.
    pub device: PathBuf,
    /// Bytes or operations a second.
    pub limit: u64,
}

/// Which I/O limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum IoLimitKind {
    /// `IOReadBandwidthMax=`
    ReadBps,
    /// `IOWriteBandwidthMax=`
    WriteBps,
    /// `IOReadIOPSMax=`
    ReadIops,
    /// `IOWriteIOPSMax=`
    WriteIops,
}
