// SPDX-License-Identifier: Apache-2.0
//! The definition of a container, as its files say it and the checks have found it right.
//!
//! Keys bear the names of the Compose Specification where it has the idea, systemd's where systemd
//! has it, and those of the OCI runtime specification otherwise. The defaults given here are those of
//! wharf-container(5). The key tables are below, by topic; rules that concern several keys are in
//! `check`, and what other tools call our keys is in `hints`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::definition::Origin;
use crate::definition::value::hook::Hook;
use crate::definition::value::words::{
    LogDriver, Network, Notify, OomPolicy, PullPolicy, Restart, ServiceType,
};
use crate::definition::value::{
    Bytes, Capability, DevicePath, EnvFile, GroupRef, IoLimit, Reload, Rlimit, Signal, Ulimit,
    UserRef,
};
use crate::name::{ContainerName, UnitName};

mod basics;
mod check;
mod hints;
mod lifecycle;
mod process;
mod resources;
mod security;
mod storage;

/// Default of `shm_size`, Compose's and Podman's.
const SHM_SIZE: Bytes = Bytes(64 << 20);

/// Default of `stop_timeout`, Compose's and Podman's.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

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

/// Where the root file system comes from: exactly one of `image` and `rootfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// `image`: a reference as written (`nginx:1`, `registry/x@sha256:…`).
    Image(String),
    /// `rootfs`: an absolute host directory, used as it is.
    Rootfs(PathBuf),
}

/// The container's first process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// `command`: replaces the image's `Cmd`.
    pub command: Option<Vec<String>>,
    /// `entrypoint`: replaces the image's `Entrypoint` and drops its `Cmd`. An empty list means
    /// no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// `environment`. Keys hold no '=' and neither keys nor values hold NUL.
    pub environment: BTreeMap<String, String>,
    /// `env_file`: read at start, later ones win, `environment` wins over all.
    pub env_files: Vec<EnvFile>,
    /// `user`: `USER[:GROUP]`, names or numbers. Defaults to the image's, then root.
    pub user: Option<UserRef>,
    /// `group_add`: supplementary groups.
    pub group_add: Vec<GroupRef>,
    /// `working_dir`: absolute, in the container. Defaults to the image's, then `/`.
    pub working_dir: Option<String>,
    /// `tty`: a terminal for the process, its master held by the relay. Defaults to false.
    pub tty: bool,
    /// `stdin`: keep standard input open instead of /dev/null. Defaults to false.
    pub stdin: bool,
    /// `init`: run a small init as PID 1 that reaps and forwards signals. Defaults to false.
    pub init: bool,
}

/// Mounts and devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// `volumes`, in the order written; later ones win on the same target.
    pub volumes: Vec<Volume>,
    /// `tmpfs`.
    pub tmpfs: Vec<Tmpfs>,
    /// `shm_size`: size of /dev/shm. Defaults to 64 MiB.
    pub shm_size: Bytes,
    /// `devices`: host devices given to the container.
    pub devices: Vec<Device>,
    /// `read_only`: no writable layer; tmpfs on /run, /tmp and /var/tmp. Defaults to false.
    pub read_only: bool,
    /// `persist`: keep the writable layer between starts. Defaults to false.
    pub persist: bool,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            volumes: Default::default(),
            tmpfs: Default::default(),
            shm_size: SHM_SIZE,
            devices: Default::default(),
            read_only: Default::default(),
            persist: Default::default(),
        }
    }
}

/// One entry of `volumes`, from the short form `SOURCE:TARGET[:OPTION,…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The host's side.
    pub source: VolumeSource,
    /// Absolute path in the container, normalised, never `/`.
    pub target: String,
    /// `ro`: read-only. Defaults to `rw`.
    pub read_only: bool,
    /// `private`, `rprivate`, `shared`, …. Defaults to *rprivate*.
    pub propagation: Propagation,
    /// `nosuid`, `noexec`, `nodev`, as written.
    pub flags: Vec<MountFlag>,
    /// `U`: give the source to the container's user.
    pub chown: bool,
    /// `idmap`: map owners through the container's user namespace.
    pub idmap: bool,
}

/// The host's side of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// An absolute host path, bound.
    Bind(PathBuf),
    /// A named volume; the name follows the grammar of container names, without '@'.
    Named(String),
    /// No source: a volume that lives as long as the container (`TARGET` alone).
    Anonymous,
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// `private`
    Private,
    /// `rprivate`
    #[default]
    Rprivate,
    /// `shared`
    Shared,
    /// `rshared`
    Rshared,
    /// `slave`
    Slave,
    /// `rslave`
    Rslave,
}

/// A mount flag that restricts (mount(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountFlag {
    /// `nosuid`
    Nosuid,
    /// `noexec`
    Noexec,
    /// `nodev`
    Nodev,
}

/// One entry of `tmpfs`: `TARGET[:OPTION,…]` with `size=`, `mode=`, `ro`, `noexec`, ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the container, normalised, never `/`.
    pub target: String,
    /// `size=`. Defaults to the kernel's half of memory.
    pub size: Option<Bytes>,
    /// `mode=`, octal. Defaults to 1777.
    pub mode: u32,
    /// `ro`, else writable.
    pub read_only: bool,
    /// `noexec`. `nosuid` and `nodev` are always on.
    pub noexec: bool,
}

/// One entry of `devices`: `HOST[:TARGET[:rwm]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The host's device, absolute, below /dev.
    pub source: DevicePath,
    /// Path in the container. Defaults to the host's.
    pub target: String,
    /// Any of `r`, `w`, `m`. Defaults to `rwm`.
    pub permissions: String,
}

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
