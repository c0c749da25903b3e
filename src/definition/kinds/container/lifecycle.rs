// SPDX-License-Identifier: Apache-2.0
//! Keys of how systemd starts, stops and restarts the unit, and the unit's own sections.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::definition::Definition;
use crate::definition::keys::{
    DURATION, Form, Key, Section, TIMEOUT, Takes, UNIT_NAME, push, put, put_some, put_word,
};
use crate::definition::value::Signal;
use crate::definition::value::words::{Notify, Restart, ServiceType, Words};
use crate::definition::value::{Reload, quantity};
use crate::name::{ContainerName, UnitName};

/// Default of `stop_timeout`, Compose's and Podman's.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How systemd starts, stops and restarts the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// `type`. Defaults to *service*.
    pub kind: ServiceType,
    /// `notify`. Defaults to *started*.
    pub notify: Notify,
    /// `restart`: `Restart=`. Defaults to *no*.
    pub restart: Restart,
    /// `restart_delay`: `RestartSec=`. Defaults to systemd's 100 ms.
    pub restart_delay: Option<Duration>,
    /// `restart_max_attempts`: `StartLimitBurst=`. Zero means no limit.
    pub restart_max_attempts: Option<u32>,
    /// `restart_window`: `StartLimitIntervalSec=`.
    pub restart_window: Option<Duration>,
    /// `stop_signal`: `KillSignal=`. Defaults to the image's at load time of the definition, which
    /// the generator does not know: `None` is SIGTERM.
    pub stop_signal: Option<Signal>,
    /// `stop_timeout`: `TimeoutStopSec=`. Defaults to 10 s.
    pub stop_timeout: Timeout,
    /// `start_timeout`: `TimeoutStartSec=`. `None` is systemd's default.
    pub start_timeout: Option<Timeout>,
    /// `reload`: what `systemctl reload` does.
    pub reload: Option<Reload>,
    /// `depends_on`: containers that are started before, and whose failure is ours.
    pub depends_on: Vec<ContainerName>,
    /// `enabled`: the generator links the unit into the default target. Defaults to false.
    pub enabled: bool,
    /// `wanted_by`: further targets the generator links the unit into.
    pub wanted_by: Vec<UnitName>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            kind: Default::default(),
            notify: Default::default(),
            restart: Default::default(),
            restart_delay: Default::default(),
            restart_max_attempts: Default::default(),
            restart_window: Default::default(),
            stop_signal: Default::default(),
            stop_timeout: Timeout::After(STOP_TIMEOUT),
            start_timeout: Default::default(),
            reload: Default::default(),
            depends_on: Default::default(),
            enabled: Default::default(),
            wanted_by: Default::default(),
        }
    }
}

/// A time limit, or none (`"infinity"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// At most this long.
    After(Duration),
    /// No limit.
    Infinity,
}

/// The administrator's own unit settings, emitted verbatim after ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passthrough {
    /// `[unit]`: directive and values (a list repeats the directive).
    pub unit: BTreeMap<String, Vec<String>>,
    /// `[service]`.
    pub service: BTreeMap<String, Vec<String>>,
    /// `[install]`: only `WantedBy`, `RequiredBy` and `UpheldBy`, as the generator links them.
    pub install: BTreeMap<String, Vec<String>>,
}

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "",
        name: "type",
        takes: Takes::Choice(ServiceType::words, |d, s| {
            put_word(&mut d.lifecycle.kind, s)
        }),
        default: "service",
        doc: "Whether the container runs until it is stopped, or to its end.",
    },
    Key {
        table: "",
        name: "notify",
        takes: Takes::Choice(Notify::words, |d, s| put_word(&mut d.lifecycle.notify, s)),
        default: "started",
        doc: "When the unit counts as started: when the process runs, or when it says so.",
    },
    Key {
        table: "",
        name: "restart",
        takes: Takes::Choice(Restart::words, |d, s| put_word(&mut d.lifecycle.restart, s)),
        default: "no",
        doc: "When systemd starts the container again after it has ended.",
    },
    Key {
        table: "",
        name: "restart_delay",
        takes: Takes::Scalar(DURATION, |d, s| {
            d.lifecycle.restart_delay = Some(quantity::parse_duration(s)?);
            Ok(())
        }),
        default: "100ms",
        doc: "The time between an end and the restart.",
    },
    Key {
        table: "",
        name: "restart_max_attempts",
        takes: Takes::Integer {
            min: 0,
            max: 1_000_000,
            set: |d, n| d.lifecycle.restart_max_attempts = u32::try_from(n).ok(),
        },
        default: "systemd's DefaultStartLimitBurst=, 5",
        doc: "How many starts within restart_window are too many; 0 for no limit.",
    },
    Key {
        table: "",
        name: "restart_window",
        takes: Takes::Scalar(DURATION, |d, s| {
            d.lifecycle.restart_window = Some(quantity::parse_positive_duration(s)?);
            Ok(())
        }),
        default: "systemd's DefaultStartLimitIntervalSec=, 10 seconds",
        doc: "The time in which restart_max_attempts counts.",
    },
    Key {
        table: "",
        name: "stop_signal",
        takes: Takes::Scalar(
            Form {
                words: "a signal such as SIGTERM or SIGRTMIN+3",
                pattern: "^([0-9]+|[A-Za-z]+[0-9]?(\\+[0-9]+)?)$",
            },
            |d, s| put_some(&mut d.lifecycle.stop_signal, s),
        ),
        default: "SIGTERM",
        doc: "The signal that asks the container to stop.",
    },
    Key {
        table: "",
        name: "stop_timeout",
        takes: Takes::Scalar(TIMEOUT, |d, s| put(&mut d.lifecycle.stop_timeout, s)),
        default: "10s",
        doc: "How long the container may take to stop before it is killed.",
    },
    Key {
        table: "",
        name: "start_timeout",
        takes: Takes::Scalar(TIMEOUT, |d, s| put_some(&mut d.lifecycle.start_timeout, s)),
        default: "systemd's DefaultTimeoutStartSec=, 90 seconds",
        doc: "How long a start may take before it is given up.",
    },
    Key {
        table: "",
        name: "reload",
        takes: Takes::Reload(
            |d, s| put_some(&mut d.lifecycle.reload, s),
            |d, words| d.lifecycle.reload = Some(Reload::Command(words)),
        ),
        default: "none",
        doc: "What systemctl reload does: send a signal, or run a command in the container.",
    },
    Key {
        table: "",
        name: "depends_on",
        takes: Takes::Texts(
            Form {
                words: "the name of a container",
                pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]*(@[A-Za-z0-9][A-Za-z0-9_.-]*)?$",
            },
            |d, s| push(&mut d.lifecycle.depends_on, s),
        ),
        default: "none",
        doc: "Containers that are started before this one, and without which it is not started.",
    },
    Key {
        table: "",
        name: "enabled",
        takes: Takes::Bool(|d, on| d.lifecycle.enabled = on),
        default: "false",
        doc: "Whether the container is started at boot.",
    },
    Key {
        table: "",
        name: "wanted_by",
        takes: Takes::Texts(UNIT_NAME, |d, s| push(&mut d.lifecycle.wanted_by, s)),
        default: "none",
        doc: "Units that start the container when they are started.",
    },
    Key {
        table: "",
        name: "unit",
        takes: Takes::Directives(Section::Unit, |d, name, values| {
            d.passthrough.unit.insert(name, values);
        }),
        default: "none",
        doc: "Directives for the unit's [Unit] section, as in systemd.unit(5).",
    },
    Key {
        table: "",
        name: "service",
        takes: Takes::Directives(Section::Service, |d, name, values| {
            d.passthrough.service.insert(name, values);
        }),
        default: "none",
        doc: "Directives for the unit's [Service] section, as in systemd.service(5) and systemd.exec(5).",
    },
    Key {
        table: "",
        name: "install",
        takes: Takes::Directives(Section::Install, |d, name, values| {
            d.passthrough.install.insert(name, values);
        }),
        default: "none",
        doc: "WantedBy, RequiredBy and UpheldBy, as in systemd.unit(5).",
    },
];
