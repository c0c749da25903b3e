// SPDX-License-Identifier: Apache-2.0
//! What a stack of layers shows as one tree, and how two of them differ.
//!
//! Read from the layers' `facts`, so nothing is mounted and no content is read again. Times do not
//! count, because `facts` has none.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::names::OPAQUE_XATTR;
use super::{facts, layer};
use crate::digest::{Digest, Hashing};
use crate::sys::dir::{self, Dir};
use crate::sys::root::{Links, Root};

/// Longest line of `facts`: a path of 4000 bytes, each of them written as three.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there only now.
    Added,
    /// Its type, attributes or content changed.
    Changed,
    /// It was there only before; what was below it too.
    Deleted,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// How.
    pub kind: Kind,
    /// Where, from `/`.
    pub path: PathBuf,
}

/// Everything but the name of an entry: what kind it is, and a digest of the rest.
type Entry = (u8, Digest);

/// A tree as it is seen through an overlay. Paths are in the order of their components, so what is
/// below a directory follows it.
type Tree = BTreeMap<PathBuf, Entry>;

/// Compares two stacks of layers, given by their diff IDs, lowest first.
pub fn diff(layers: &Path, from: &[Digest], to: &[Digest]) -> anyhow::Result<Vec<Difference>> {
    let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let (below, from) = from.split_at(shared);
    let (_, to) = to.split_at(shared);
    let mut before = Tree::new();
    stack(&mut before, layers, below)?;
    let mut after = before.clone();
    stack(&mut before, layers, from)?;
    stack(&mut after, layers, to)?;
    Ok(compare(&before, &after))
}

fn compare(before: &Tree, after: &Tree) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut deleted: Option<&Path> = None;
    for (path, entry) in before {
        if !after.contains_key(path) {
            if !deleted.is_some_and(|top| path.starts_with(top)) {
                deleted = Some(path);
                found.push((Kind::Deleted, path));
            }
        } else if after.get(path) != Some(entry) {
            found.push((Kind::Changed, path));
        }
    }
    let added = after.keys().filter(|path| !before.contains_key(*path));
    found.extend(added.map(|path| (Kind::Added, path)));
    found.sort_by_key(|(_, path)| *path);
    let differences = found.into_iter().map(|(kind, path)| Difference {
        kind,
        path: path.clone(),
    });
    differences.collect()
}

fn stack(tree: &mut Tree, layers: &Path, diff_ids: &[Digest]) -> anyhow::Result<()> {
    for diff_id in diff_ids {
        add_layer(tree, layers, diff_id).with_context(|| format!("reading layer '{diff_id}'"))?;
    }
    Ok(())
}

fn add_layer(tree: &mut Tree, layers: &Path, diff_id: &Digest) -> anyhow::Result<()> {
    let record = layer::load(layers, diff_id)?;
    if record.opaque {
        tree.clear();
    }
    let known = Known::new();
    let root = Root::open_with(&layer::tree(layers, diff_id), Links::Refused)?;
    let file: File = Dir::open(&layer::dir(layers, diff_id))?.open_file("facts".as_ref())?;
    let mut reader = BufReader::new(Hashing::new(file));
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        add_line(tree, &root, &known, text)?;
    }
    io::copy(&mut reader, &mut io::sink())?;
    let (found, _, _) = reader.into_inner().finish();
    ensure!(
        found == *record.facts(),
        "its file 'facts' is damaged; mend it with 'wharf image check --repair'"
    );
    Ok(())
}

/// Digests that mean something, as `facts` writes them.
struct Known {
    /// Of nothing: no content, no attributes.
    none: String,
    /// The content of a whiteout.
    whiteout: String,
    /// The attributes of an opaque directory that has no others.
    only_opaque: String,
}

impl Known {
    fn new() -> Self {
        let opaque: (&OsStr, &[u8]) = (OPAQUE_XATTR.as_ref(), b"y");
        Self {
            none: Digest::of(b"").hex(),
            whiteout: Digest::of(b"0:0").hex(),
            only_opaque: facts::digest_of_xattrs(&[opaque]).hex(),
        }
    }
}

/// `KIND MODE UID GID SIZE CONTENT XATTRS PATH`.
fn add_line(tree: &mut Tree, root: &Root, known: &Known, line: &[u8]) -> anyhow::Result<()> {
    let path = PathBuf::from(facts::path_of(line));
    let mut fields = line.splitn(8, |byte| *byte == b' ');
    let (kind, content, xattrs) = (fields.next(), fields.nth(4), fields.next());
    let (Some([kind]), Some(content), Some(xattrs)) = (kind, content, xattrs) else {
        anyhow::bail!("its file 'facts' holds a line of another form");
    };
    if *kind == b'c' && content == known.whiteout.as_bytes() {
        remove_below(tree, &path);
        tree.remove(&path);
        return Ok(());
    }
    let is_dir = *kind == b'd';
    let opaque = is_dir && is_opaque(root, &path, known, xattrs)?;
    if opaque || !is_dir {
        remove_below(tree, &path);
    }
    let name = line.iter().rposition(|byte| *byte == b' ');
    let mut rest = line.get(..name.unwrap_or(0)).unwrap_or_default().to_vec();
    if opaque && xattrs == known.only_opaque.as_bytes() {
        // How a layer hides what is below it is no attribute of the directory.
        rest.truncate(rest.len().saturating_sub(xattrs.len()));
        rest.extend_from_slice(known.none.as_bytes());
    }
    tree.insert(path, (*kind, Digest::of(&rest)));
    Ok(())
}

/// Whether the directory hides what lower layers have in it. The digest of its attributes tells,
/// unless there are others besides.
fn is_opaque(root: &Root, path: &Path, known: &Known, xattrs: &[u8]) -> anyhow::Result<bool> {
    if xattrs == known.none.as_bytes() {
        return Ok(false);
    }
    if xattrs == known.only_opaque.as_bytes() {
        return Ok(true);
    }
    let dir = root.open_readable_dir(path)?;
    Ok(dir::xattr(&dir, OPAQUE_XATTR.as_ref())?.is_some())
}

fn remove_below(tree: &mut Tree, path: &Path) {
    let after = (Bound::Excluded(path.to_owned()), Bound::Unbounded);
    let below: Vec<PathBuf> = tree
        .range(after)
        .map(|(found, _)| found)
        .take_while(|found| found.starts_with(path))
        .cloned()
        .collect();
    for path in below {
        tree.remove(&path);
    }
}
