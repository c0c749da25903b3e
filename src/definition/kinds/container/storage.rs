// SPDX-License-Identifier: Apache-2.0
//! Keys of mounts and devices.

use crate::definition::Definition;
use crate::definition::keys::{Form, Key, SIZE, Takes, push, put};

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
