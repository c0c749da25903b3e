// SPDX-License-Identifier: Apache-2.0
//! Paths that are hidden or read-only, and the labels of AppArmor and SELinux.
//!
//! The default paths are files of /proc and /sys that tell about, or act on, the whole machine.
//! The runtime skips those that the kernel does not have.

use std::path::Path;

use anyhow::bail;

use crate::definition::{Security, Unmask};
use crate::engine::spec::host::HostFacts;

/// Hidden: an empty directory, or /dev/null, is mounted over them.
const MASKED: [&str; 15] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/kernel/security",
];

/// Read-only.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The paths hidden from the container: the default ones without `unmask`, then `mask`.
pub(crate) fn masked_paths(security: &Security) -> Vec<String> {
    let mut paths = defaults(security, &MASKED);
    for path in &security.mask {
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    paths
}

/// The paths made read-only.
pub(crate) fn read_only_paths(security: &Security) -> Vec<String> {
    defaults(security, &READ_ONLY)
}

/// `unmask` takes a path with everything below it, so that `/proc` means all of /proc.
fn defaults(security: &Security, paths: &[&str]) -> Vec<String> {
    if security.privileged {
        return Vec::new();
    }
    let visible = |path: &&str| match &security.unmask {
        Unmask::All => true,
        Unmask::Paths(unmasked) => unmasked.iter().any(|u| Path::new(path).starts_with(u)),
    };
    let kept = paths.iter().filter(|path| !visible(path));
    kept.map(|path| (*path).to_owned()).collect()
}

/// The AppArmor profile, if one is asked for.
///
/// A profile on a kernel without AppArmor is an error: running unconfined instead would be a
/// silent loss of what the administrator asked for.
pub(crate) fn apparmor(security: &Security, host: &HostFacts) -> anyhow::Result<Option<String>> {
    match security.apparmor.as_deref() {
        None => Ok(None),
        // Said to the runtime only where it can be obeyed: it fails otherwise.
        Some("unconfined") => Ok(host.apparmor.then(|| "unconfined".to_owned())),
        Some(profile) if host.apparmor => Ok(Some(profile.to_owned())),
        Some(profile) => bail!(
            "this kernel has no AppArmor for the profile '{profile}', \
             remove the key 'apparmor' or enable AppArmor"
        ),
    }
}

/// The SELinux label of the process, if one is asked for.
pub(crate) fn selinux(security: &Security, host: &HostFacts) -> anyhow::Result<Option<String>> {
    match security.selinux.as_deref() {
        None | Some("disable") => Ok(None),
        Some(label) if host.selinux => Ok(Some(label.to_owned())),
        Some(label) => bail!(
            "this kernel has no SELinux for the label '{label}', \
             remove the key 'selinux' or enable SELinux"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmask_takes_a_path_and_what_is_below_it() {
        let cases: [(&[&str], usize, usize); 5] = [
            (&[], 15, 5),
            (&["/proc"], 5, 0),
            (&["/proc/sys"], 15, 4),
            (&["/proc/sy"], 15, 5),
            (&["/sys/firmware", "/nonexistent"], 14, 5),
        ];
        for (unmasked, masked, read_only) in cases {
            let paths = unmasked.iter().map(|path| (*path).to_owned()).collect();
            let security = Security {
                unmask: Unmask::Paths(paths),
                ..Security::default()
            };
            assert_eq!(masked_paths(&security).len(), masked, "{unmasked:?}");
            assert_eq!(read_only_paths(&security).len(), read_only, "{unmasked:?}");
        }
    }

    #[test]
    fn mask_holds_even_when_all_is_unmasked_or_privileged() {
        let security = Security {
            mask: vec!["/etc/secret".to_owned(), "/etc/secret".to_owned()],
            unmask: Unmask::All,
            privileged: true,
            ..Security::default()
        };
        assert_eq!(masked_paths(&security), ["/etc/secret"]);
        assert!(read_only_paths(&security).is_empty());
    }

    #[test]
    fn a_label_that_the_kernel_cannot_apply_is_an_error() {
        let mut host = HostFacts {
            architecture: crate::engine::spec::host::Architecture::X86_64,
            apparmor: false,
            selinux: false,
            capabilities: 0,
        };
        let mut security = Security {
            apparmor: Some("web".to_owned()),
            selinux: Some("a:b:c:s0".to_owned()),
            ..Security::default()
        };
        assert!(apparmor(&security, &host).is_err());
        assert!(selinux(&security, &host).is_err());
        host.apparmor = true;
        host.selinux = true;
        assert_eq!(apparmor(&security, &host).unwrap().as_deref(), Some("web"));
        assert_eq!(
            selinux(&security, &host).unwrap().as_deref(),
            Some("a:b:c:s0")
        );
        security.selinux = Some("disable".to_owned());
        assert_eq!(selinux(&security, &host).unwrap(), None);
    }
}
