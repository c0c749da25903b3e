// SPDX-License-Identifier: Apache-2.0
//! `wharf inspect --size`: what a container's files take.

use std::collections::BTreeSet;

use anyhow::Context as _;

use crate::definition::{Definition, Root as RootSource, load};
use crate::digest::Digest;
use crate::engine::container::Container;
use crate::engine::files::tree::{Base, Tree};
use crate::image::store::Store;
use crate::paths::Paths;
use crate::storage::layer;
use crate::storage::walk::{Descend, Node, Warnings, walk};
use crate::sys::dir::{Dir, Kind};

/// Bytes of content; none where there is no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of the image's layers, unpacked. They are shared with other containers.
    pub image: Option<u64>,
    /// Of the writable layer, without volumes.
    pub writable: Option<u64>,
}

/// Adds them up. The writable layer is read whole, but for the content of its files.
pub fn size(container: Container<'_>) -> anyhow::Result<Size> {
    let paths = container.paths();
    let add_up = || -> anyhow::Result<Size> {
        if let Some(reference) = image_alone(container)? {
            let (_, digest) = Store::open(paths)?.find(&reference)?;
            return Ok(Size {
                image: Some(image_bytes(paths, &digest)?),
                writable: Some(0),
            });
        }
        Ok(match Tree::find(container)?.base {
            Base::Directory(_) => Size {
                image: None,
                writable: None,
            },
            Base::Image { image, writable } => Size {
                image: Some(image_bytes(paths, &image.digest)?),
                writable: Some(tree_bytes(Dir::open(&writable.diff)?)?),
            },
        })
    };
    let name = container.name();
    add_up().with_context(|| format!("adding up the files of container '{name}'"))
}

/// The image of a container that does not run and of which nothing else is there.
fn image_alone(container: Container<'_>) -> anyhow::Result<Option<String>> {
    if container.is_running() {
        return Ok(None);
    }
    let definition: Definition = load::load(container.paths(), container.name())?;
    Ok(match definition.root {
        RootSource::Image(reference) if !definition.storage.persist => Some(reference),
        RootSource::Image(_) | RootSource::Rootfs(_) => None,
    })
}

fn image_bytes(paths: &Paths, digest: &Digest) -> anyhow::Result<u64> {
    let store = Store::open(paths)?;
    let documents = store.documents(digest)?;
    let mut bytes = 0;
    for diff_id in &documents.config.diff_ids {
        bytes += layer::load(store.layers_dir(), diff_id)?.bytes;
    }
    Ok(bytes)
}

/// Bytes of the files below `top`, each file once; holes count.
pub(super) fn tree_bytes(top: Dir) -> anyhow::Result<u64> {
    let mut bytes = 0_u64;
    let mut seen = BTreeSet::new();
    walk(top, &mut Warnings::default(), &mut |found, _| {
        let entry = found.entry;
        let again = entry.links > 1 && !seen.insert(entry.inode);
        if matches!(found.node, Node::File(_)) && entry.kind == Kind::File && !again {
            bytes = bytes.saturating_add(entry.size);
        }
        Ok(Descend::Yes)
    })?;
    Ok(bytes)
}
