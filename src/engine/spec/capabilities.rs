// SPDX-License-Identifier: Apache-2.0
//! Which capabilities the first process gets.
//!
//! Root gets the set as bounding, effective and permitted; inheritable and ambient stay empty, so
//! that no file capability of the image turns them into more (threats X6, CVE-2022-29162).
//! Another user gets the set as bounding only, and what `cap_add` names also as ambient: ambient
//! is the one way for execve(2) to leave a non-root process a capability, and the kernel wants it
//! to be inheritable too. Without `cap_add`, `CapInh` is 0 for every user.

use std::collections::BTreeSet;

use anyhow::bail;
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::definition::{CapabilitySet, Security};
use crate::engine::spec::host::HostFacts;

/// All capabilities; the index is the number (capabilities(7), linux/capability.h).
const TABLE: [(&str, Capability); 41] = [
    ("CAP_CHOWN", Capability::Chown),
    ("CAP_DAC_OVERRIDE", Capability::DacOverride),
    ("CAP_DAC_READ_SEARCH", Capability::DacReadSearch),
    ("CAP_FOWNER", Capability::Fowner),
    ("CAP_FSETID", Capability::Fsetid),
    ("CAP_KILL", Capability::Kill),
    ("CAP_SETGID", Capability::Setgid),
    ("CAP_SETUID", Capability::Setuid),
    ("CAP_SETPCAP", Capability::Setpcap),
    ("CAP_LINUX_IMMUTABLE", Capability::LinuxImmutable),
    ("CAP_NET_BIND_SERVICE", Capability::NetBindService),
    ("CAP_NET_BROADCAST", Capability::NetBroadcast),
    ("CAP_NET_ADMIN", Capability::NetAdmin),
    ("CAP_NET_RAW", Capability::NetRaw),
    ("CAP_IPC_LOCK", Capability::IpcLock),
    ("CAP_IPC_OWNER", Capability::IpcOwner),
    ("CAP_SYS_MODULE", Capability::SysModule),
    ("CAP_SYS_RAWIO", Capability::SysRawio),
    ("CAP_SYS_CHROOT", Capability::SysChroot),
    ("CAP_SYS_PTRACE", Capability::SysPtrace),
    ("CAP_SYS_PACCT", Capability::SysPacct),
    ("CAP_SYS_ADMIN", Capability::SysAdmin),
    ("CAP_SYS_BOOT", Capability::SysBoot),
    ("CAP_SYS_NICE", Capability::SysNice),
    ("CAP_SYS_RESOURCE", Capability::SysResource),
    ("CAP_SYS_TIME", Capability::SysTime),
    ("CAP_SYS_TTY_CONFIG", Capability::SysTtyConfig),
    ("CAP_MKNOD", Capability::Mknod),
    ("CAP_LEASE", Capability::Lease),
    ("CAP_AUDIT_WRITE", Capability::AuditWrite),
    ("CAP_AUDIT_CONTROL", Capability::AuditControl),
    ("CAP_SETFCAP", Capability::Setfcap),
    ("CAP_MAC_OVERRIDE", Capability::MacOverride),
    ("CAP_MAC_ADMIN", Capability::MacAdmin),
    ("CAP_SYSLOG", Capability::Syslog),
    ("CAP_WAKE_ALARM", Capability::WakeAlarm),
    ("CAP_BLOCK_SUSPEND", Capability::BlockSuspend),
    ("CAP_AUDIT_READ", Capability::AuditRead),
    ("CAP_PERFMON", Capability::Perfmon),
    ("CAP_BPF", Capability::Bpf),
    ("CAP_CHECKPOINT_RESTORE", Capability::CheckpointRestore),
];

/// What a container has unless its definition says otherwise: what package managers and servers
/// that drop to a user of their own need inside their own files and processes. These are the
/// eleven of Podman; Docker's further three are left out: AUDIT_WRITE (writes to the host's audit
/// log), MKNOD (the device cgroup forbids the nodes anyway) and NET_RAW (spoofing on a shared
/// network; ping works without it through `net.ipv4.ping_group_range`).
const DEFAULT: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A set of capabilities by number, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set(BTreeSet<usize>);

impl Set {
    /// Whether the capability with this full name is in the set.
    pub(crate) fn has(&self, name: &str) -> bool {
        number(name).is_some_and(|number| self.0.contains(&number))
    }

    fn insert(&mut self, name: &str, host: &HostFacts) -> anyhow::Result<()> {
        let Some(number) = number(name) else {
            bail!("'{name}' is not a capability of this version of wharf, see capabilities(7)");
        };
        if host.capabilities & (1 << number) == 0 {
            bail!(
                "{name} is not wharf's to give: it is not in CapBnd of /proc/self/status, \
                 take it out of cap_add or give it to the service manager"
            );
        }
        self.0.insert(number);
        Ok(())
    }

    fn all(host: &HostFacts) -> Self {
        let held = |number: &usize| host.capabilities & (1 << number) != 0;
        Self((0..TABLE.len()).filter(held).collect())
    }

    fn to_oci(&self) -> Capabilities {
        self.0
            .iter()
            .filter_map(|&number| TABLE.get(number).map(|(_, capability)| *capability))
            .collect()
    }
}

fn number(name: &str) -> Option<usize> {
    TABLE.iter().position(|(known, _)| *known == name)
}

/// The bounding set: the default one, without `cap_drop`, with `cap_add`; all when privileged.
///
/// `ALL` means all that wharf itself holds; a capability that is named and that wharf does not
/// hold is an error. A default one that wharf does not hold is left out.
pub(crate) fn bounding(security: &Security, host: &HostFacts) -> anyhow::Result<Set> {
    if security.privileged {
        return Ok(Set::all(host));
    }
    let mut set = Set::default();
    match &security.cap_drop {
        CapabilitySet::All => {}
        CapabilitySet::Named(dropped) => {
            let all = Set::all(host);
            for name in DEFAULT {
                let kept = !dropped.iter().any(|capability| capability.name() == name);
                if kept && all.has(name) {
                    set.insert(name, host)?;
                }
            }
        }
    }
    match &security.cap_add {
        CapabilitySet::All => {
            // `cap_add = ["ALL"]` with `cap_drop = ["NET_RAW"]` is all but that one.
            set = Set::all(host);
            if let CapabilitySet::Named(dropped) = &security.cap_drop {
                for number in dropped.iter().filter_map(|c| number(c.name())) {
                    set.0.remove(&number);
                }
            }
        }
        CapabilitySet::Named(added) => {
            for capability in added {
                set.insert(capability.name(), host)?;
            }
        }
    }
    Ok(set)
}

/// What a non-root user keeps over execve(2): what `cap_add` asks for by name or as `ALL`.
fn ambient(security: &Security, bounding: &Set) -> Set {
    match &security.cap_add {
        CapabilitySet::All => bounding.clone(),
        CapabilitySet::Named(added) => {
            let numbers = added.iter().filter_map(|c| number(c.name()));
            Set(numbers.filter(|n| bounding.0.contains(n)).collect())
        }
    }
}

/// The five sets of the first process, which runs as `uid`.
pub(crate) fn render(security: &Security, bounding: &Set, uid: u32) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(bounding.to_oci()));
    let (held, kept) = if uid == 0 {
        (bounding.clone(), Set::default())
    } else {
        let ambient = ambient(security, bounding);
        (ambient.clone(), ambient)
    };
    sets.set_effective(Some(held.to_oci()));
    sets.set_permitted(Some(held.to_oci()));
    sets.set_inheritable(Some(kept.to_oci()));
    sets.set_ambient(Some(kept.to_oci()));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::value;
    use crate::engine::spec::host::Architecture;

    fn host(capabilities: u64) -> HostFacts {
        HostFacts {
            architecture: Architecture::X86_64,
            apparmor: false,
            selinux: false,
            capabilities,
        }
    }

    fn named(names: &[&str]) -> CapabilitySet {
        let names = names.iter().map(|n| value::Capability((*n).to_owned()));
        CapabilitySet::Named(names.collect())
    }

    fn names(set: &Set) -> Vec<&str> {
        set.0.iter().map(|&n| TABLE[n].0).collect()
    }

    #[test]
    fn table_agrees_with_the_names_of_the_specification() {
        for (name, capability) in TABLE {
            let json = serde_json::to_value(capability).unwrap();
            assert_eq!(json, name);
        }
    }

    #[test]
    fn bounding_is_default_minus_drop_plus_add() {
        let everything = (1 << 41) - 1;
        let mut security = Security::default();
        assert_eq!(bounding(&security, &host(everything)).unwrap().0.len(), 11);
        assert_eq!(bounding(&security, &host(0b11)).unwrap().0.len(), 2);
        security.cap_drop = CapabilitySet::All;
        security.cap_add = named(&["CAP_NET_ADMIN", "CAP_CHOWN"]);
        let set = bounding(&security, &host(everything)).unwrap();
        assert_eq!(names(&set), ["CAP_CHOWN", "CAP_NET_ADMIN"]);
        security.cap_drop = named(&["CAP_NET_RAW"]);
        security.cap_add = CapabilitySet::All;
        let set = bounding(&security, &host(everything)).unwrap();
        assert_eq!(set.0.len(), 40);
        assert!(!set.has("CAP_NET_RAW"));
        security.privileged = true;
        assert_eq!(bounding(&security, &host(everything)).unwrap().0.len(), 41);
    }

    #[test]
    fn a_named_capability_that_wharf_lacks_is_an_error() {
        let security = Security {
            cap_add: named(&["CAP_SYS_RESOURCE"]),
            ..Security::default()
        };
        let err = bounding(&security, &host(!(1 << 24))).unwrap_err();
        assert!(
            err.to_string()
                .contains("CAP_SYS_RESOURCE is not wharf's to give"),
            "{err}"
        );
    }

    #[test]
    fn inheritable_is_empty_but_for_what_a_user_was_given() {
        let mut security = Security::default();
        let set = bounding(&security, &host(u64::MAX)).unwrap();
        for uid in [0, 1000] {
            let sets = render(&security, &set, uid);
            assert!(sets.inheritable().as_ref().unwrap().is_empty(), "uid {uid}");
            assert!(sets.ambient().as_ref().unwrap().is_empty(), "uid {uid}");
        }
        security.cap_add = named(&["CAP_NET_RAW"]);
        let set = bounding(&security, &host(u64::MAX)).unwrap();
        let sets = render(&security, &set, 1000);
        assert_eq!(sets.ambient().as_ref().unwrap().len(), 1);
        assert_eq!(sets.ambient(), sets.inheritable());
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 12);
        assert!(
            render(&security, &set, 0)
                .inheritable()
                .as_ref()
                .unwrap()
                .is_empty()
        );
    }
}
