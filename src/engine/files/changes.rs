// SPDX-License-Identifier: Apache-2.0
//! `wharf diff`: what a container has changed in its root file system.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::engine::container::Container;
use crate::engine::difference::Difference;
use crate::engine::files::tree::{Base, Tree};
use crate::engine::spec::NOTIFY_DIR;
use crate::storage::changes;
use crate::storage::walk::Warnings;
use crate::sys::dir::{Dir, Kind};

/// What a container has changed.
#[derive(Debug)]
pub struct Changed {
    /// By path, without a `/` in front, sorted.
    pub differences: Vec<(Vec<u8>, Difference)>,
    /// What could not be looked at.
    pub warnings: Warnings,
}

/// Compares the container with its image.
pub fn changes(container: Container<'_>) -> anyhow::Result<Changed> {
    let tree = Tree::find(container)?;
    let compared = || -> anyhow::Result<Changed> {
        let (upper, layers) = parts_of(&tree)?;
        let found = changes::changes(upper, layers, &is_own_mount_point)?;
        tree.check_whole()?;
        let differences = found.differences.into_iter();
        Ok(Changed {
            differences: differences
                .map(|(path, kind)| (path, kind.into()))
                .collect(),
            warnings: found.warnings,
        })
    };
    let name = container.name();
    compared().with_context(|| format!("comparing container '{name}' with its image"))
}

/// The mount points that wharf made in a container.
pub(super) fn own_mount_points(tree: &Tree) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    let (upper, layers) = parts_of(tree)?;
    changes::own_entries(upper, layers, &is_own_mount_point, &has_own_mount_points)
}

fn parts_of(tree: &Tree) -> anyhow::Result<(Dir, &[PathBuf])> {
    match &tree.base {
        Base::Image { image, writable } => Ok((Dir::open(&writable.diff)?, &image.layers)),
        Base::Directory(path) => bail!(
            "it has no image: its root is the directory '{}', which it changes in place",
            path.display()
        ),
    }
}

const OWN_DIRECTORIES: [&str; 4] = ["dev", "proc", "sys", NOTIFY_DIR];
const OWN_FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];

fn without_root(path: &str) -> &[u8] {
    path.strip_prefix('/').unwrap_or(path).as_bytes()
}

/// Mount points that wharf makes in every container whose image lacks them: nothing that the
/// container has written.
fn is_own_mount_point(path: &[u8], kind: Kind) -> bool {
    match kind {
        Kind::Directory => OWN_DIRECTORIES.iter().any(|own| without_root(own) == path),
        Kind::File => OWN_FILES.iter().any(|own| without_root(own) == path),
        Kind::Link | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Other => false,
    }
}

/// Whether there can be such a mount point in the directory.
fn has_own_mount_points(dir: &[u8]) -> bool {
    OWN_DIRECTORIES.iter().chain(&OWN_FILES).any(|own| {
        let rest = without_root(own).strip_prefix(dir);
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    })
}
