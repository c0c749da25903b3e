// SPDX-License-Identifier: Apache-2.0
//! Keys that say what the container is: image, name for people, labels, network, log, hooks.

use crate::definition::Definition;
use crate::definition::Root;
use crate::definition::keys::{ABSOLUTE_PATH, Form, IMAGE, Key, LINE, Takes, put_some, put_word};
use crate::definition::value::text;
use crate::definition::value::words::{LogDriver, Network, PullPolicy, Words};

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "",
        name: "description",
        takes: Takes::Text(LINE, |d, s| {
            d.description = Some(text::parse_line(s)?);
            Ok(())
        }),
        default: "the image or the root file system",
        doc: "One line for people, shown by systemctl status.",
    },
    Key {
        table: "",
        name: "image",
        takes: Takes::Text(IMAGE, |d, s| {
            d.root = Root::Image(text::parse_reference(s)?);
            Ok(())
        }),
        default: "none; one of image and rootfs must be set",
        doc: "The image that the root file system is made of.",
    },
    Key {
        table: "",
        name: "rootfs",
        takes: Takes::Text(ABSOLUTE_PATH, |d, s| {
            d.root = Root::Rootfs(text::parse_host_path(s)?);
            Ok(())
        }),
        default: "none; one of image and rootfs must be set",
        doc: "A directory of the host that is the root file system, used as it is.",
    },
    Key {
        table: "",
        name: "pull_policy",
        takes: Takes::Choice(PullPolicy::words, |d, s| put_word(&mut d.pull_policy, s)),
        default: "missing",
        doc: "When the image is pulled.",
    },
    Key {
        table: "",
        name: "hostname",
        takes: Takes::Text(
            Form {
                words: "a host name",
                pattern: "^[A-Za-z0-9_.-]{1,64}$",
            },
            |d, s| {
                d.hostname = Some(text::parse_hostname(s)?);
                Ok(())
            },
        ),
        default: "the container's name, with '@' replaced by '-'",
        doc: "The host name inside the container.",
    },
    Key {
        table: "",
        name: "network",
        takes: Takes::Choice(Network::words, |d, s| put_word(&mut d.network, s)),
        default: "private",
        doc: "The network namespace: the host's, or one of its own without or with a loopback that is up.",
    },
    Key {
        table: "",
        name: "labels",
        takes: Takes::Map(LINE, |d, key, value| {
            text::check_label_name(key)?;
            text::check_argument(value)?;
            d.labels.insert(key.to_owned(), value.to_owned());
            Ok(())
        }),
        default: "none",
        doc: "Data for people and tools; wharf never acts on them.",
    },
    Key {
        table: "",
        name: "annotations",
        takes: Takes::Map(LINE, |d, key, value| {
            text::check_label_name(key)?;
            text::check_argument(value)?;
            d.annotations.insert(key.to_owned(), value.to_owned());
            Ok(())
        }),
        default: "none",
        doc: "Annotations for the OCI runtime, which may act on them.",
    },
    Key {
        table: "log",
        name: "driver",
        takes: Takes::Choice(LogDriver::words, |d, s| put_word(&mut d.log.driver, s)),
        default: "journal",
        doc: "How output gets to the journal: through the relay, or with no process in between.",
    },
    Key {
        table: "log",
        name: "rate_limit",
        takes: Takes::Scalar(
            Form {
                words: "LINES/INTERVAL such as 10000/30s, or 0 for no limit",
                pattern: "^(0|[0-9]+/.+)$",
            },
            |d, s| put_some(&mut d.log.rate_limit, s),
        ),
        default: "the limit of journald.conf(5)",
        doc: "How many lines the journal takes in an interval before it drops the rest.",
    },
    Key {
        table: "log",
        name: "stderr_priority",
        takes: Takes::Integer {
            min: 0,
            max: 7,
            set: |d, n| d.log.stderr_priority = u8::try_from(n).ok(),
        },
        default: "6",
        doc: "The syslog level of what the container writes to standard error.",
    },
    Key {
        table: "log",
        name: "identifier",
        takes: Takes::Text(LINE, |d, s| {
            d.log.identifier = Some(text::parse_line(s)?);
            Ok(())
        }),
        default: "the container's name",
        doc: "The identifier of the container's lines in the journal.",
    },
    Key {
        table: "hooks",
        name: "precreate",
        takes: Takes::Hooks(|d, hooks| d.hooks.precreate = hooks),
        default: "none",
        doc: "Programs that get config.json on standard input and print the one to use.",
    },
    Key {
        table: "hooks",
        name: "create_runtime",
        takes: Takes::Hooks(|d, hooks| d.hooks.create_runtime = hooks),
        default: "none",
        doc: "Programs run after the namespaces are made, before the root is changed.",
    },
    Key {
        table: "hooks",
        name: "create_container",
        takes: Takes::Hooks(|d, hooks| d.hooks.create_container = hooks),
        default: "none",
        doc: "Programs run in the container's namespaces, before the root is changed.",
    },
    Key {
        table: "hooks",
        name: "start_container",
        takes: Takes::Hooks(|d, hooks| d.hooks.start_container = hooks),
        default: "none",
        doc: "Programs run in the container, before its own.",
    },
    Key {
        table: "hooks",
        name: "poststart",
        takes: Takes::Hooks(|d, hooks| d.hooks.poststart = hooks),
        default: "none",
        doc: "Programs run after the container's process was started.",
    },
    Key {
        table: "hooks",
        name: "poststop",
        takes: Takes::Hooks(|d, hooks| d.hooks.poststop = hooks),
        default: "none",
        doc: "Programs run by wharf cleanup after the container has ended.",
    },
];
