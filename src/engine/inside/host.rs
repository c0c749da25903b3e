// SPDX-License-Identifier: Apache-2.0
//! Facts about this machine, gathered once per start ([`HostFacts`]).

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::engine::spec::host::{Architecture, HostFacts};
use crate::sys;

/// Asks the kernel about this machine.
pub fn gather() -> anyhow::Result<HostFacts> {
    let status = sys::fs::read_to_string(Path::new("/proc/self/status"))
        .context("reading the capabilities of wharf")?;
    let enabled = sys::fs::read_to_string(Path::new("/sys/module/apparmor/parameters/enabled"));
    Ok(HostFacts {
        architecture: Architecture::native(),
        apparmor: enabled.is_ok_and(|text| text.trim() == "Y"),
        selinux: PathBuf::from("/sys/fs/selinux/enforce").exists(),
        capabilities: capability_mask(&status, "CapPrm:")? & capability_mask(&status, "CapBnd:")?,
    })
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
        let facts = gather().unwrap();
        assert_eq!(facts.architecture, Architecture::native());
        assert_eq!(
            capability_mask("X:\t1\nCapBnd:\t00ff\n", "CapBnd:").unwrap(),
            0xff
        );
        assert!(capability_mask("CapBnd:\tzz\n", "CapBnd:").is_err());
        assert!(capability_mask("", "CapBnd:").is_err());
    }
}
