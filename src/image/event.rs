// SPDX-License-Identifier: Apache-2.0
//! Events of a pull: for whoever shows how far it is, and for systemd's patience.

use crate::digest::Digest;
use crate::reference::Reference;

/// Event of a pull, perhaps told by several threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A short name was found on this registry.
    Found(Reference),
    /// Somebody else downloads the same; this pull waits for that.
    Waiting {
        /// Who: a process and its command.
        holder: String,
        /// The blob's digest.
        digest: Digest,
    },
    /// Work goes on that downloads nothing, perhaps somebody else's.
    Alive,
    /// So many layers, of so many bytes in all, will be downloaded; the others are there.
    Plan {
        /// To be downloaded.
        layers: usize,
        /// In the store.
        present: usize,
        /// Compressed bytes to be downloaded.
        bytes: u64,
    },
    /// A layer's download begins.
    Layer {
        /// The blob's digest.
        digest: Digest,
        /// Its compressed bytes.
        bytes: u64,
    },
    /// So many more bytes of the layer were read.
    Progress {
        /// The blob's digest.
        digest: Digest,
        /// Bytes.
        bytes: u64,
    },
    /// The layer is unpacked and verified.
    Done(Digest),
    /// Layers are being written to the disk.
    Flushing,
    /// Something that people should know and that stops nothing.
    Warning(String),
}

/// Gets the events of a pull.
pub type Report<'a> = &'a (dyn Fn(Event) + Sync);
