// SPDX-License-Identifier: Apache-2.0
//! Keys of what confines the container.

use crate::definition::Definition;
use crate::definition::keys::{ABSOLUTE_PATH, Form, Key, Takes, put};
use crate::definition::value::text;

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
