// SPDX-License-Identifier: Apache-2.0
//! Keys of mounts and devices.

use std::path::PathBuf;

use crate::definition::Definition;
use crate::definition::keys::{Form, Key, SIZE, Takes, push, put};
use crate::definition::value::{Bytes, DevicePath};

/// Default of `shm_size`, Compose's and Podman's.
const SHM_SIZE: Bytes = Bytes(64 << 20);

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

pub(super) static KEYS: &[Key<Definition>] = &[
    Key {
        table: "",
        name: "volumes",
        takes: Takes::Texts(
            Form {
                words: "SOURCE:TARGET[:OPTION,…], or TARGET alone",
                pattern: "^[^:]+(:/[^:]*(:[A-Za-z,]+)?)?$",
            },
            |d, s| push(&mut d.storage.volumes, s),
        ),
        default: "none",
        doc: "Host directories, files and named volumes mounted in the container.",
    },
    Key {
        table: "",
        name: "tmpfs",
        takes: Takes::Texts(
            Form {
                words: "TARGET[:OPTION,…]",
                pattern: "^/",
            },
            |d, s| push(&mut d.storage.tmpfs, s),
        ),
        default: "none",
        doc: "Empty file systems in memory, mounted in the container.",
    },
    Key {
        table: "",
        name: "shm_size",
        takes: Takes::Scalar(SIZE, |d, s| put(&mut d.storage.shm_size, s)),
        default: "64M",
        doc: "The size of /dev/shm.",
    },
    Key {
        table: "",
        name: "devices",
        takes: Takes::Texts(
            Form {
                words: "HOST[:TARGET[:PERMISSIONS]]",
                pattern: "^/dev/",
            },
            |d, s| push(&mut d.storage.devices, s),
        ),
        default: "none",
        doc: "Devices of the host given to the container.",
    },
    Key {
        table: "",
        name: "read_only",
        takes: Takes::Bool(|d, on| d.storage.read_only = on),
        default: "false",
        doc: "Whether the root file system is read-only, with a tmpfs on /run, /tmp and /var/tmp.",
    },
    Key {
        table: "",
        name: "persist",
        takes: Takes::Bool(|d, on| d.storage.persist = on),
        default: "false",
        doc: "Whether what the container writes to its root file system is kept for the next start.",
    },
];
