// SPDX-License-Identifier: Apache-2.0
//! What this machine can do, as far as a container's configuration depends on it.
//!
//! Gathered once per start and handed to the pure functions as a value, so that a test says on
//! which machine it is.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::sys;

/// The machine and the powers wharf has on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The processor architecture.
    pub architecture: Architecture,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
    /// The capabilities wharf may hand on, one bit each (`CapPrm` and `CapBnd` of
    /// `/proc/self/status`): the runtime cannot give what it does not have.
    pub capabilities: u64,
}

/// A processor architecture that the built-in seccomp profile knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`, with 32-bit and x32 programs.
    X86_64,
    /// `aarch64`, with 32-bit ARM programs.
    Aarch64,
    /// Anything else: the native system calls only.
    Other,
}

impl Architecture {
    /// The one wharf was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "x86_64") {
            Self::X86_64
        } else if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::Other
        }
    }
}

impl HostFacts {
    /// Asks the kernel.
    pub fn gather() -> anyhow::Result<Self> {
        let status = sys::fs::read_to_string(Path::new("/proc/self/status"))
            .context("reading the capabilities of wharf")?;
        let enabled = sys::fs::read_to_string(Path::new("/sys/module/apparmor/parameters/enabled"));
        Ok(Self {
            architecture: Architecture::native(),
            apparmor: enabled.is_ok_and(|text| text.trim() == "Y"),
            selinux: PathBuf::from("/sys/fs/selinux/enforce").exists(),
            capabilities: capability_mask(&status, "CapPrm:")?
                & capability_mask(&status, "CapBnd:")?,
        })
    }
}

fn capability_mask(status: &str, field: &str) -> anyhow::Result<u64> {
    let digits = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .with_context(|| format!("/proc/self/status has no {field}"))?;
    u64::from_str_radix(digits.trim(), 16)
        .with_context(|| format!("/proc/self/status has no number behind {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_the_masks_of_this_process() {
        let facts = HostFacts::gather().unwrap();
        assert_eq!(facts.architecture, Architecture::native());
        assert_eq!(
            capability_mask("X:\t1\nCapBnd:\t00ff\n", "CapBnd:").unwrap(),
            0xff
        );
        assert!(capability_mask("CapBnd:\tzz\n", "CapBnd:").is_err());
        assert!(capability_mask("", "CapBnd:").is_err());
    }
}
