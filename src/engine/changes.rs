// SPDX-License-Identifier: Apache-2.0
//! `wharf diff`: what a container has changed in its root file system.

use anyhow::{Context as _, bail};

use crate::engine::Engine;
use crate::engine::spec::NOTIFY_DIR;
use crate::engine::tree::{Base, Tree};
use crate::name::ContainerName;
use crate::storage::changes::{self, Changes};
use crate::sys::dir::{Dir, Kind};

/// Compares the container with its image.
pub fn changes(engine: &Engine, name: &ContainerName) -> anyhow::Result<Changes> {
    let tree = Tree::find(engine, name)?;
    let compared = || -> anyhow::Result<Changes> {
        let found = of_tree(&tree)?;
        tree.check_whole()?;
        Ok(found)
    };
    compared().with_context(|| format!("comparing container '{name}' with its image"))
}

/// As [`changes()`], for a container that was found.
pub(super) fn of_tree(tree: &Tree) -> anyhow::Result<Changes> {
    match &tree.base {
        Base::Image { image, writable } => {
            let upper = Dir::open(&writable.diff)?;
            changes::changes(upper, &image.layers, &is_own_mount_point)
        }
        Base::Directory(path) => bail!(
            "it has no image: its root is the directory '{}', which it changes in place",
            path.display()
        ),
    }
}

/// Mount points that wharf makes in every container whose image lacks them: nothing that the
/// container has written.
fn is_own_mount_point(path: &[u8], kind: Kind) -> bool {
    const DIRECTORIES: [&[u8]; 3] = [b"dev", b"proc", b"sys"];
    const FILES: [&[u8]; 3] = [b"etc/hostname", b"etc/hosts", b"etc/resolv.conf"];
    match kind {
        Kind::Directory => {
            DIRECTORIES.contains(&path) || NOTIFY_DIR.as_bytes().strip_prefix(b"/") == Some(path)
        }
        Kind::File => FILES.contains(&path),
        Kind::Link | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Other => false,
    }
}
