// SPDX-License-Identifier: Apache-2.0
//! Keys of `[resources]`: limits, all of them properties of the unit.

use crate::definition::Definition;
use crate::definition::keys::{Form, Key, Takes, put, put_word};
use crate::definition::value::words::{OomPolicy, Words};
use crate::definition::value::{Bytes, IoLimit, IoLimitKind, quantity};

/// `[resources]` (systemd.resource-control(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// `memory`: `MemoryMax=`.
    pub memory: Option<Bytes>,
    /// `memory_high`: `MemoryHigh=`.
    pub memory_high: Option<Bytes>,
    /// `memory_swap`: `MemorySwapMax=`, swap alone.
    pub memory_swap: Option<Bytes>,
    /// `cpus`, in thousandths of one CPU: `CPUQuota=`.
    pub cpus_milli: Option<u64>,
    /// `cpu_weight`, 1 to 10000: `CPUWeight=`.
    pub cpu_weight: Option<u64>,
    /// `cpuset`: `AllowedCPUs=`, such as `0-3,7`.
    pub cpuset: Option<String>,
    /// `pids`: `TasksMax=`. Defaults to 4096.
    pub pids: Pids,
    /// `io_weight`, 1 to 10000: `IOWeight=`.
    pub io_weight: Option<u64>,
    /// `io_read_bps`, `io_write_bps`, `io_read_iops`, `io_write_iops`: `DEVICE:LIMIT`.
    pub io_limits: Vec<IoLimit>,
    /// `oom_policy`: `OOMPolicy=`. Defaults to *stop*.
    pub oom_policy: OomPolicy,
    /// `oom_score_adj`, -1000 to 1000: `OOMScoreAdjust=` of the payload.
    pub oom_score_adj: Option<i32>,
}

/// `pids`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pids {
    /// At most this many tasks.
    Max(u64),
    /// `"infinity"`.
    Infinity,
}

impl Default for Pids {
    fn default() -> Self {
        Self::Max(4096)
    }
}

const MEMORY: Form = Form {
    words: "a size such as 512M or 1G, a number of bytes, or infinity",
    pattern: "^([0-9]+[A-Za-z]*|infinity)$",
};

const IO_LIMIT: Form = Form {
    words: "DEVICE:LIMIT such as /dev/sda:10M",
    pattern: "^/.*:[0-9]+[A-Za-z]*$",
};

/// Less than this is a slip such as 512 for 512M; nothing starts in it.
const MEMORY_MIN: u64 = 1 << 20;

/// A limit of memory; `infinity` takes an earlier one back.
fn put_memory(place: &mut Option<Bytes>, text: &str) -> Result<(), String> {
    *place = match text {
        "infinity" => None,
        _ => Some(text.parse()?),
    };
    match place {
        Some(Bytes(bytes)) if *bytes < MEMORY_MIN => Err(format!(
            "{bytes} bytes are too little for any process, write a unit as in 512M"
        )),
        _ => Ok(()),
    }
}

fn push_io(resources: &mut Resources, kind: IoLimitKind, text: &str) -> Result<(), String> {
    resources.io_limits.push(IoLimit::parse(kind, text)?);
    Ok(())
}

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "resources",
        name: "memory",
        takes: Takes::Scalar(MEMORY, |d, s| put_memory(&mut d.resources.memory, s)),
        default: "no limit",
        doc: "The most memory the container may use.",
    },
    Key {
        table: "resources",
        name: "memory_high",
        takes: Takes::Scalar(MEMORY, |d, s| put_memory(&mut d.resources.memory_high, s)),
        default: "no limit",
        doc: "Memory above which the container is slowed down.",
    },
    Key {
        table: "resources",
        name: "memory_swap",
        takes: Takes::Scalar(MEMORY, |d, s| {
            d.resources.memory_swap = match s {
                "infinity" => None,
                _ => Some(s.parse()?),
            };
            Ok(())
        }),
        default: "no limit",
        doc: "The most swap the container may use, memory not included.",
    },
    Key {
        table: "resources",
        name: "cpus",
        takes: Takes::Scalar(
            Form {
                words: "a number of CPUs such as 1.5",
                pattern: "^[0-9]+(\\.[0-9]+)?$",
            },
            |d, s| {
                d.resources.cpus_milli = Some(quantity::parse_cpus(s)?);
                Ok(())
            },
        ),
        default: "no limit",
        doc: "How many CPUs' worth of time the container may use.",
    },
    Key {
        table: "resources",
        name: "cpu_weight",
        takes: Takes::Integer {
            min: 1,
            max: 10_000,
            set: |d, n| d.resources.cpu_weight = u64::try_from(n).ok(),
        },
        default: "100",
        doc: "The container's share of CPU time when there is not enough for all.",
    },
    Key {
        table: "resources",
        name: "cpuset",
        takes: Takes::Scalar(
            Form {
                words: "a set of CPUs such as 0-3,7",
                pattern: "^[0-9, -]+$",
            },
            |d, s| {
                d.resources.cpuset = Some(quantity::parse_cpuset(s)?);
                Ok(())
            },
        ),
        default: "all",
        doc: "The CPUs the container may run on.",
    },
    Key {
        table: "resources",
        name: "pids",
        takes: Takes::Scalar(
            Form {
                words: "a number of tasks, or infinity",
                pattern: "^([0-9]+|infinity)$",
            },
            |d, s| put(&mut d.resources.pids, s),
        ),
        default: "4096",
        doc: "The most processes and threads the container may have.",
    },
    Key {
        table: "resources",
        name: "io_weight",
        takes: Takes::Integer {
            min: 1,
            max: 10_000,
            set: |d, n| d.resources.io_weight = u64::try_from(n).ok(),
        },
        default: "100",
        doc: "The container's share of input and output when there is not enough for all.",
    },
    Key {
        table: "resources",
        name: "io_read_bps",
        takes: Takes::Texts(IO_LIMIT, |d, s| {
            push_io(&mut d.resources, IoLimitKind::ReadBps, s)
        }),
        default: "no limit",
        doc: "The most bytes a second read from a device.",
    },
    Key {
        table: "resources",
        name: "io_write_bps",
        takes: Takes::Texts(IO_LIMIT, |d, s| {
            push_io(&mut d.resources, IoLimitKind::WriteBps, s)
        }),
        default: "no limit",
        doc: "The most bytes a second written to a device.",
    },
    Key {
        table: "resources",
        name: "io_read_iops",
        takes: Takes::Texts(IO_LIMIT, |d, s| {
            push_io(&mut d.resources, IoLimitKind::ReadIops, s)
        }),
        default: "no limit",
        doc: "The most reads a second from a device.",
    },
    Key {
        table: "resources",
        name: "io_write_iops",
        takes: Takes::Texts(IO_LIMIT, |d, s| {
            push_io(&mut d.resources, IoLimitKind::WriteIops, s)
        }),
        default: "no limit",
        doc: "The most writes a second to a device.",
    },
    Key {
        table: "resources",
        name: "oom_policy",
        takes: Takes::Choice(OomPolicy::words, |d, s| {
            put_word(&mut d.resources.oom_policy, s)
        }),
        default: "stop",
        doc: "What happens to the container when the kernel kills one of its processes for want of memory.",
    },
    Key {
        table: "resources",
        name: "oom_score_adj",
        takes: Takes::Integer {
            min: -1000,
            max: 1000,
            set: |d, n| d.resources.oom_score_adj = i32::try_from(n).ok(),
        },
        default: "that of the unit, 0",
        doc: "How readily the kernel picks the container's processes when memory runs out.",
    },
];
