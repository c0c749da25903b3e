// SPDX-License-Identifier: Apache-2.0
//! What a container has changed: its upper directory compared with the layers below.
//!
//! Only the upper directory is read whole; of the layers, the names that it has too. Files that are
//! in the upper directory count as changed, since overlayfs copies a file there when something is
//! done to it; a directory counts when its owner, mode or attributes differ, or when something below
//! it has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::pack::{is_opaque, xattrs_of};
use super::walk::{Descend, Found, NAMES_BYTES_MAX, Node, Warnings, names_of, walk};
use crate::sys::dir::{Dir, Entry, Kind, Names};
use crate::sys::root::{Links, Root};

/// What became of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is new.
    Added,
    /// It was there and is not as it was.
    Changed,
    /// It was there and is removed.
    Deleted,
}

/// All that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// By path, without a `/` in front.
    pub differences: BTreeMap<Vec<u8>, Difference>,
    /// New entries that the caller has called its own; they are no differences.
    pub own: BTreeSet<Vec<u8>>,
    /// What could not be looked at.
    pub warnings: Warnings,
}

/// Says whether a new entry with nothing in it is the caller's own, by its path and what it is.
pub type IsOwn<'a> = &'a dyn Fn(&[u8], Kind) -> bool;

/// Says of a directory whether there can be something of the caller's own in it.
pub type HasOwn<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Compares the tree `upper` with `layers`, lowest first.
pub fn changes(upper: Dir, layers: &[PathBuf], is_own: IsOwn<'_>) -> anyhow::Result<Changes> {
    compare(upper, layers, is_own, &|_| true)
}

/// The caller's own entries alone. Only directories that can have some are read.
pub fn own_entries(
    upper: Dir,
    layers: &[PathBuf],
    is_own: IsOwn<'_>,
    has_own: HasOwn<'_>,
) -> anyhow::Result<BTreeSet<Vec<u8>>> {
    compare(upper, layers, is_own, has_own).map(|changes| changes.own)
}

/// Compares the top, and what is below it in the directories of which `is_read` holds.
fn compare(
    upper: Dir,
    layers: &[PathBuf],
    is_own: IsOwn<'_>,
    is_read: HasOwn<'_>,
) -> anyhow::Result<Changes> {
    let roots = layers
        .iter()
        .rev()
        .map(|layer| Root::open_with(layer, Links::Refused))
        .collect::<Result<Vec<_>, _>>()?;
    let mut comparison = Comparison {
        is_own,
        is_read,
        levels: Vec::new(),
        changes: Changes::default(),
        roots,
    };
    let mut warnings = Warnings::default();
    walk(upper, &mut warnings, &mut |found, _| {
        let descend = match found.path.is_empty() || is_read(found.path) {
            true => Descend::Yes,
            false => Descend::No,
        };
        comparison.visit(found)?;
        Ok(descend)
    })?;
    let mut changes = comparison.changes;
    changes.warnings = warnings;
    Ok(changes)
}

struct Comparison<'a> {
    is_own: IsOwn<'a>,
    /// Of a directory that is not read, what it hides is not looked at either.
    is_read: HasOwn<'a>,
    /// Layers, the topmost first.
    roots: Vec<Root>,
    /// The directories from the top to the one that is being read.
    levels: Vec<Level>,
    changes: Changes,
}

/// A directory of the upper tree, and what it was in the image.
struct Level {
    path: Vec<u8>,
    /// Layers whose directories are seen here, by index.
    lower: Vec<usize>,
    /// They are hidden from the container.
    opaque: bool,
}

/// What the image has under a name.
struct Lower {
    entry: Entry,
    /// For a directory, the layers that make it.
    layers: Vec<usize>,
}

impl Comparison<'_> {
    fn visit(&mut self, found: Found<'_>) -> anyhow::Result<()> {
        let Found { path, entry, node } = found;
        if path.is_empty() {
            return self.visit_top(entry);
        }
        let (parent, name) = split(path);
        while self.levels.last().is_some_and(|level| level.path != parent) {
            self.levels.pop();
        }
        let (layers, hidden) = match self.levels.last() {
            Some(level) => (level.lower.clone(), level.opaque),
            None => (Vec::new(), false),
        };
        let lower = self.look(parent, name, &layers)?;
        if entry.is_whiteout() {
            if lower.is_some() {
                self.note(path, Difference::Deleted);
            }
            return Ok(());
        }
        match (&node, &lower) {
            (_, None) => {
                let empty = match &node {
                    // Not a single name fits into a byte.
                    Node::Dir(dir) => Names::read_sorted(dir, 1)?.is_some(),
                    Node::File(_) | Node::Link(_) | Node::Special(_) => entry.size == 0,
                };
                if empty && (self.is_own)(path, entry.kind) {
                    self.changes.own.insert(path.to_vec());
                } else {
                    self.note(path, Difference::Added);
                }
            }
            (Node::Dir(dir), Some(lower)) if lower.entry.kind == Kind::Directory => {
                if !self.is_same(path, dir, entry, lower)? {
                    self.note(path, Difference::Changed);
                }
            }
            (_, Some(_)) => self.note(path, Difference::Changed),
        }
        let Node::Dir(dir) = node else {
            return Ok(());
        };
        let opaque = hidden || is_opaque(dir)?;
        let lower = lower.map_or_else(Vec::new, |lower| lower.layers);
        if opaque && (self.is_read)(path) {
            self.note_hidden(path, dir, &lower)?;
        }
        self.levels.push(Level {
            path: path.to_vec(),
            lower,
            opaque,
        });
        Ok(())
    }

    /// The root is there in every image, and its time is that of the container's first start.
    fn visit_top(&mut self, entry: Entry) -> anyhow::Result<()> {
        let lower: Vec<usize> = (0..self.roots.len()).collect();
        if let Some(top) = self.roots.first() {
            let image = Dir::from(top.open_readable_dir(Path::new("."))?).own_entry()?;
            if (image.mode, image.uid, image.gid) != (entry.mode, entry.uid, entry.gid) {
                self.note(&[], Difference::Changed);
            }
        }
        self.levels.push(Level {
            path: Vec::new(),
            lower,
            opaque: false,
        });
        Ok(())
    }

    /// What `layers` have under `name` in the directory `parent`.
    fn look(&self, parent: &[u8], name: &OsStr, layers: &[usize]) -> anyhow::Result<Option<Lower>> {
        let mut lower: Option<Lower> = None;
        for &index in layers {
            let Some(dir) = self.lower_dir(index, parent) else {
                continue;
            };
            let Some(entry) = dir.entry(name)? else {
                continue;
            };
            if entry.is_whiteout() {
                break;
            }
            if entry.kind != Kind::Directory {
                // Below a directory it is hidden.
                let layers = Vec::new();
                lower.get_or_insert(Lower { entry, layers });
                break;
            }
            let found = lower.get_or_insert(Lower {
                entry,
                layers: Vec::new(),
            });
            found.layers.push(index);
            if is_opaque(&dir.open_dir(name)?)? {
                break;
            }
        }
        Ok(lower)
    }

    /// The directory `path` of a layer; its own links are not followed.
    fn lower_dir(&self, index: usize, path: &[u8]) -> Option<Dir> {
        let root = self.roots.get(index)?;
        let path = match path {
            [] => Path::new("."),
            path => Path::new(OsStr::from_bytes(path)),
        };
        root.open_readable_dir(path).ok().map(Dir::from)
    }

    fn is_same(&self, path: &[u8], dir: &Dir, entry: Entry, lower: &Lower) -> anyhow::Result<bool> {
        let facts = |entry: Entry| (entry.mode, entry.uid, entry.gid);
        let top = lower.layers.first();
        let Some(image) = top.and_then(|index| self.lower_dir(*index, path)) else {
            return Ok(false);
        };
        Ok(facts(entry) == facts(lower.entry) && xattrs_of(dir)? == xattrs_of(&image)?)
    }

    /// Notes what the image has in a directory that was removed and made again.
    fn note_hidden(&mut self, path: &[u8], dir: &Dir, lower: &[usize]) -> anyhow::Result<()> {
        let names = names_of(dir, NAMES_BYTES_MAX)?;
        let mut seen: BTreeSet<OsString> = names.iter().map(OsStr::to_owned).collect();
        for &index in lower {
            let Some(layer) = self.lower_dir(index, path) else {
                continue;
            };
            for name in layer.names()? {
                let entry = layer.entry(&name)?;
                if !seen.insert(name.clone()) || entry.is_none_or(|entry| entry.is_whiteout()) {
                    continue;
                }
                let path = [path, b"/", name.as_bytes()].concat();
                self.note(&path, Difference::Deleted);
            }
        }
        Ok(())
    }

    /// Notes a difference, and with it that the directories above it have changed.
    fn note(&mut self, path: &[u8], difference: Difference) {
        self.changes.differences.insert(path.to_vec(), difference);
        let mut above = path;
        while let Some(at) = above.iter().rposition(|byte| *byte == b'/') {
            above = above.get(..at).unwrap_or_default();
            let differences = &mut self.changes.differences;
            differences
                .entry(above.to_vec())
                .or_insert(Difference::Changed);
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &OsStr) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => {
            let (parent, name) = path.split_at(at);
            (parent, OsStr::from_bytes(name.get(1..).unwrap_or_default()))
        }
        None => (&[], OsStr::from_bytes(path)),
    }
}
