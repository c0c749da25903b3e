// SPDX-License-Identifier: Apache-2.0
//! The definition of a container, as its files say it and the checks have found it right.
//!
//! Keys bear the names of the Compose Specification where it has the idea, systemd's where systemd
//! has it, and those of the OCI runtime specification otherwise. The defaults given here are those of
//! wharf-container(5). Each topic has a file with its type and its keys; what a container is, its log
//! and its hooks are here. Rules that concern several keys are in `check`, and what other tools call
//! our keys is in `hints`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::definition::Origin;
use crate::definition::keys::{ABSOLUTE_PATH, Form, IMAGE, Key, LINE, Takes, put_some, put_word};
use crate::definition::kinds::container::lifecycle::{Lifecycle, Passthrough};
use crate::definition::kinds::container::process::Process;
use crate::definition::kinds::container::resources::Resources;
use crate::definition::kinds::container::security::Security;
use crate::definition::kinds::container::storage::Storage;
use crate::definition::value::hook::Hook;
use crate::definition::value::text;
use crate::definition::value::words::{LogDriver, Network, PullPolicy, Words as _};
use crate::name::ContainerName;

mod check;
mod hints;
pub mod lifecycle;
pub mod process;
pub mod resources;
pub mod security;
pub mod storage;

/// A container, fully defined and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The container's name, instance included.
    pub name: ContainerName,
    /// The files it was merged from: the base file first, then drop-ins in merge order.
    pub sources: Vec<PathBuf>,
    /// Where each key was set, in the order of files and lines; entries of maps are not listed.
    pub origins: Vec<Origin>,
    /// One line for people; the unit's `Description=`. Defaults to the image or rootfs.
    pub description: Option<String>,
    /// What the container's root file system is made of.
    pub root: Root,
    /// When an image is pulled. Defaults to *missing*.
    pub pull_policy: PullPolicy,
    /// The first process.
    pub process: Process,
    /// The host name, at most 64 bytes. Defaults to the container's name ('@' becomes '-').
    pub hostname: Option<String>,
    /// The NIS and DNS domain, at most 64 bytes; the host name with it is what the container is called
    /// in full. Defaults to none.
    pub domainname: Option<String>,
    /// Mounts and devices.
    pub storage: Storage,
    /// What confines the container.
    pub security: Security,
    /// Labels: data for people and tools, never instructions to wharf.
    pub labels: BTreeMap<String, String>,
    /// OCI annotations, passed to the runtime as the administrator wrote them.
    pub annotations: BTreeMap<String, String>,
    /// How systemd starts, stops and restarts the unit.
    pub lifecycle: Lifecycle,
    /// `[resources]`: limits, all of them unit properties.
    pub resources: Resources,
    /// `[log]`.
    pub log: Log,
    /// The network namespace. Defaults to *private*.
    pub network: Network,
    /// `[hooks]`.
    pub hooks: Hooks,
    /// `[unit]`, `[service]`, `[install]`: the administrator's own unit settings.
    pub passthrough: Passthrough,
}

impl Definition {
    /// A container of which no key is set.
    pub fn unset(name: &ContainerName) -> Self {
        Self {
            name: name.clone(),
            sources: Vec::new(),
            origins: Vec::new(),
            description: None,
            // A placeholder, which the rules make sure is replaced.
            root: Root::Image(String::new()),
            pull_policy: PullPolicy::default(),
            process: Process::default(),
            hostname: None,
            domainname: None,
            storage: Storage::default(),
            security: Security::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            lifecycle: Lifecycle::default(),
            resources: Resources::default(),
            log: Log::default(),
            network: Network::default(),
            hooks: Hooks::default(),
            passthrough: Passthrough::default(),
        }
    }
}

/// Where the root file system comes from: exactly one of `image` and `rootfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `image`: a reference as written (`nginx:1`, `registry/x@sha256:…`).
    Image(String),
    /// `rootfs`: an absolute host directory, used as it is.
    Rootfs(PathBuf),
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// `driver`. Defaults to *journal*.
    pub driver: LogDriver,
    /// `rate_limit`. `None` leaves it to journald.conf(5).
    pub rate_limit: Option<RateLimit>,
    /// `stderr_priority`, 0 to 7: the level of stderr's lines. Defaults to 6, *info*.
    pub stderr_priority: Option<u8>,
    /// `identifier`: `SyslogIdentifier=`. Defaults to the name.
    pub identifier: Option<String>,
}

/// `log.rate_limit`: `LINES/INTERVAL` such as `"10000/30s"`, or 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// No limit (`LogRateLimitIntervalSec=0`).
    Unlimited,
    /// At most `burst` lines in `interval`.
    PerInterval {
        /// `LogRateLimitBurst=`.
        burst: u32,
        /// `LogRateLimitIntervalSec=`.
        interval: Duration,
    },
}

/// `[hooks]`: programs on the host, with the OCI state on standard input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// `precreate`: gets config.json on stdin and prints the one to use.
    pub precreate: Vec<Hook>,
    /// `create_runtime`: this and the next three are run by the OCI runtime (runtime-spec, "POSIX-platform Hooks").
    pub create_runtime: Vec<Hook>,
    /// `create_container`.
    pub create_container: Vec<Hook>,
    /// `start_container`.
    pub start_container: Vec<Hook>,
    /// `poststart`.
    pub poststart: Vec<Hook>,
    /// `poststop`: run by `wharf cleanup`.
    pub poststop: Vec<Hook>,
}

static KEYS: &[Key<Definition>] = &[
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
        name: "domainname",
        takes: Takes::Text(
            Form {
                words: "a domain name",
                pattern: "^[A-Za-z0-9_.-]{1,64}$",
            },
            |d, s| {
                d.domainname = Some(text::parse_hostname(s)?);
                Ok(())
            },
        ),
        default: "none",
        doc: "The NIS domain inside the container, and the DNS domain of its host name in /etc/hosts.",
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
