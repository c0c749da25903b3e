// SPDX-License-Identifier: Apache-2.0
//! Keys of what confines the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::definition::Definition;
use crate::definition::keys::{ABSOLUTE_PATH, Form, Key, Takes, put};
use crate::definition::value::text;
use crate::definition::value::{Capability, Rlimit, Ulimit};

/// What confines the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// `cap_add`: on top of the default set.
    pub cap_add: CapabilitySet,
    /// `cap_drop`: out of the default set; applied before `cap_add`.
    pub cap_drop: CapabilitySet,
    /// `privileged`: all capabilities and devices, no seccomp, nothing masked. Defaults to false.
    pub privileged: bool,
    /// `no_new_privileges`. Defaults to true.
    pub no_new_privileges: bool,
    /// `seccomp`.
    pub seccomp: Seccomp,
    /// `mask`: paths hidden besides the default ones.
    pub mask: Vec<String>,
    /// `unmask`: default masked and read-only paths left visible; `ALL` for every one.
    pub unmask: Unmask,
    /// `apparmor`: a profile that is loaded, or `unconfined`.
    pub apparmor: Option<String>,
    /// `selinux`: a process label, or `disable`.
    pub selinux: Option<String>,
    /// `sysctls`: only namespaced ones.
    pub sysctls: BTreeMap<String, String>,
    /// `ulimits`.
    pub ulimits: BTreeMap<Rlimit, Ulimit>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            cap_add: Default::default(),
            cap_drop: Default::default(),
            privileged: Default::default(),
            no_new_privileges: true,
            seccomp: Default::default(),
            mask: Default::default(),
            unmask: Default::default(),
            apparmor: Default::default(),
            selinux: Default::default(),
            sysctls: Default::default(),
            ulimits: Default::default(),
        }
    }
}

/// Capabilities named one by one, or all of them (`ALL`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapabilitySet {
    /// `ALL`.
    All,
    /// These.
    Named(Vec<Capability>),
}

impl Default for CapabilitySet {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// `seccomp`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// `default`: the built-in profile.
    #[default]
    Default,
    /// An absolute path of a profile in the OCI format.
    Profile(PathBuf),
    /// `unconfined`.
    Unconfined,
}

/// `unmask`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmask {
    /// `["ALL"]`.
    All,
    /// These; empty by default.
    Paths(Vec<String>),
}

impl Default for Unmask {
    fn default() -> Self {
        Self::Paths(Vec::new())
    }
}

const CAPABILITY: Form = Form {
    words: "a capability such as NET_ADMIN, or ALL",
    pattern: "^[A-Za-z_]+$",
};

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "",
        name: "cap_add",
        takes: Takes::Texts(CAPABILITY, |d, s| d.security.cap_add.add(s)),
        default: "none",
        doc: "Capabilities on top of the default set.",
    },
    Key {
        table: "",
        name: "cap_drop",
        takes: Takes::Texts(CAPABILITY, |d, s| d.security.cap_drop.add(s)),
        default: "none",
        doc: "Capabilities taken out of the default set, before cap_add is applied.",
    },
    Key {
        table: "",
        name: "privileged",
        takes: Takes::Bool(|d, on| d.security.privileged = on),
        default: "false",
        doc: "Whether the container is given everything: capabilities, devices, no seccomp, nothing masked.",
    },
    Key {
        table: "",
        name: "no_new_privileges",
        takes: Takes::Bool(|d, on| d.security.no_new_privileges = on),
        default: "true",
        doc: "Whether set-user-id programs and file capabilities are without effect.",
    },
    Key {
        table: "",
        name: "seccomp",
        takes: Takes::Text(
            Form {
                words: "default, unconfined or an absolute path",
                pattern: "^(default|unconfined|/.+)$",
            },
            |d, s| put(&mut d.security.seccomp, s),
        ),
        default: "default",
        doc: "The filter of system calls: the built-in one, none, or a profile in the OCI format.",
    },
    Key {
        table: "",
        name: "mask",
        takes: Takes::Texts(ABSOLUTE_PATH, |d, s| {
            d.security.mask.push(text::parse_container_path(s)?);
            Ok(())
        }),
        default: "none",
        doc: "Paths hidden from the container besides the ones that always are.",
    },
    Key {
        table: "",
        name: "unmask",
        takes: Takes::Texts(
            Form {
                words: "an absolute path, or ALL",
                pattern: "^(/|ALL$)",
            },
            |d, s| d.security.unmask.add(s),
        ),
        default: "none",
        doc: "Paths left visible and writable that are masked or read-only by default.",
    },
    Key {
        table: "",
        name: "apparmor",
        takes: Takes::Text(
            Form {
                words: "the name of a loaded profile, or unconfined",
                pattern: "^[A-Za-z0-9._/:,@+-]{1,255}$",
            },
            |d, s| {
                d.security.apparmor = Some(text::parse_label(s)?);
                Ok(())
            },
        ),
        default: "none",
        doc: "The AppArmor profile of the process.",
    },
    Key {
        table: "",
        name: "selinux",
        takes: Takes::Text(
            Form {
                words: "a process label, or disable",
                pattern: "^[A-Za-z0-9._/:,@+-]{1,255}$",
            },
            |d, s| {
                d.security.selinux = Some(text::parse_label(s)?);
                Ok(())
            },
        ),
        default: "none",
        doc: "The SELinux label of the process.",
    },
    Key {
        table: "",
        name: "sysctls",
        takes: Takes::Map(
            Form {
                words: "a number or string",
                pattern: "^[A-Za-z0-9 \\t._,:/-]+$",
            },
            |d, key, value| {
                text::check_sysctl_name(key)?;
                text::check_sysctl_value(value)?;
                d.security.sysctls.insert(key.to_owned(), value.to_owned());
                Ok(())
            },
        ),
        default: "none",
        doc: "Kernel parameters of the container's own namespaces.",
    },
    Key {
        table: "",
        name: "ulimits",
        takes: Takes::Ulimits(|d, key, value| {
            d.security.ulimits.insert(key.parse()?, value.parse()?);
            Ok(())
        }),
        default: "the limits that systemd gives to services",
        doc: "Resource limits of the process, by the names of getrlimit(2) in lower case.",
    },
];
