// SPDX-License-Identifier: Apache-2.0
//! Walking a tree that somebody may be changing, by descriptors.
//!
//! Every directory is opened by one name in the directory above it, and no link is followed, so
//! the walk stays below its top whatever a container does to the tree meanwhile. What vanishes
//! before it is seen is not there. The order depends on nothing but the names: a directory, then
//! what is in it, sorted.

use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use anyhow::Context as _;

use super::member::printable;
use super::names::PATH_BYTES_MAX;
use crate::sys::dir::{Dir, Entry, Kind, Names};
use crate::sys::held::Held;

/// How deep a walk goes. One descriptor is open for each level, and nothing that wharf unpacks is
/// deeper.
const DEPTH_MAX: usize = 512;

/// Most bytes of names that a walk remembers, of all the directories that it is in: three million of
/// usual length. A container can make any number of them.
pub(super) const NAMES_BYTES_MAX: usize = 64 << 20;

/// What was left out or is not as it was, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    /// The first of them.
    pub texts: Vec<String>,
    /// How many there were.
    pub count: u64,
}

/// Most warnings that are kept: a container can cause any number of them.
const WARNINGS_MAX: usize = 50;

impl Warnings {
    /// Notes one about the entry `path`.
    pub fn add(&mut self, path: &[u8], fact: &str) {
        self.count += 1;
        if self.texts.len() < WARNINGS_MAX {
            self.texts.push(format!("'{}' {fact}", printable(path)));
        }
    }
}

impl Warnings {
    /// Takes over those of another step.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        self.texts.extend(other.texts);
        self.texts.truncate(WARNINGS_MAX);
    }
}

/// What a walk has come to.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path below the top, `/` between names; empty for the top itself.
    pub path: &'a [u8],
    /// What it is.
    pub entry: Entry,
    /// How it is opened.
    pub node: Node<'a>,
}

/// What there is to read.
#[derive(Debug)]
pub enum Node<'a> {
    /// A directory.
    Dir(&'a Dir),
    /// A file, open for reading.
    File(File),
    /// The target of a symbolic link.
    Link(Vec<u8>),
    /// A device, a FIFO or a socket.
    Special(&'a Held),
}

/// Whether the walk goes into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descend {
    /// It does.
    Yes,
    /// It goes on behind it. For what is no directory this says nothing.
    No,
}

struct Level {
    dir: Dir,
    names: Names,
    /// The one that is visited next.
    next: usize,
    /// Bytes of the path that lead here.
    path_len: usize,
}

/// Shows `visit` the directory `top` and everything below it.
pub fn walk(
    top: Dir,
    warnings: &mut Warnings,
    visit: &mut dyn FnMut(Found<'_>, &mut Warnings) -> anyhow::Result<Descend>,
) -> anyhow::Result<()> {
    let mut path = Vec::new();
    let found = Found {
        path: &path,
        entry: top.own_entry()?,
        node: Node::Dir(&top),
    };
    if visit(found, warnings)? == Descend::No {
        return Ok(());
    }
    let mut levels = vec![Level::of(top, 0, NAMES_BYTES_MAX)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.get(level.next) else {
            levels.pop();
            continue;
        };
        level.next += 1;
        path.truncate(level.path_len);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name.as_bytes());
        if path.len() > PATH_BYTES_MAX {
            let fact = format!("has a path of more than {PATH_BYTES_MAX} bytes, leaving it out");
            warnings.add(&path, &fact);
            continue;
        }
        let reading = || format!("reading '{}'", printable(&path));
        let Some(held) = level.dir.hold(name).with_context(reading)? else {
            continue;
        };
        let visited = visit_one(&held, &path, warnings, visit).with_context(reading)?;
        let Some(dir) = visited else {
            continue;
        };
        if levels.len() >= DEPTH_MAX {
            let fact =
                format!("is more than {DEPTH_MAX} directories deep, leaving out what is in it");
            warnings.add(&path, &fact);
            continue;
        }
        let taken = levels.iter().map(|level| level.names.cost()).sum();
        let room = NAMES_BYTES_MAX.saturating_sub(taken);
        let level = Level::of(dir, path.len(), room);
        levels.push(level.with_context(|| format!("reading '{}'", printable(&path)))?);
    }
    Ok(())
}

/// Visits one entry; returns the directory to go into, if it is one.
fn visit_one(
    held: &Held,
    path: &[u8],
    warnings: &mut Warnings,
    visit: &mut dyn FnMut(Found<'_>, &mut Warnings) -> anyhow::Result<Descend>,
) -> anyhow::Result<Option<Dir>> {
    let entry = held.entry();
    let found = |node| Found { path, entry, node };
    match entry.kind {
        Kind::Directory => {
            let dir = held.open_dir()?;
            let descend = visit(found(Node::Dir(&dir)), warnings)?;
            Ok((descend == Descend::Yes).then_some(dir))
        }
        Kind::File => {
            let file = held.read()?;
            // Size and time of what will be read, not of a moment before.
            let entry = held.look_again()?;
            let node = Node::File(file);
            visit(Found { path, entry, node }, warnings)?;
            Ok(None)
        }
        Kind::Link => {
            let target = held.read_link()?.into_vec();
            visit(found(Node::Link(target)), warnings)?;
            Ok(None)
        }
        Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Other => {
            visit(found(Node::Special(held)), warnings)?;
            Ok(None)
        }
    }
}

impl Level {
    fn of(dir: Dir, path_len: usize, room: usize) -> anyhow::Result<Self> {
        Ok(Self {
            names: names_of(&dir, room)?,
            dir,
            next: 0,
            path_len,
        })
    }
}

/// The names in a directory, sorted; at most so many bytes of them.
pub(super) fn names_of(dir: &Dir, room: usize) -> anyhow::Result<Names> {
    Names::read_sorted(dir, room)?.with_context(|| {
        format!(
            "the names in it and in the directories above take more than the {} MiB that are accepted",
            NAMES_BYTES_MAX >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn paths(top: &std::path::Path, warnings: &mut Warnings) -> Vec<String> {
        let mut seen = Vec::new();
        walk(Dir::open(top).unwrap(), warnings, &mut |found, _| {
            seen.push(String::from_utf8_lossy(found.path).into_owned());
            Ok(Descend::Yes)
        })
        .unwrap();
        seen
    }

    #[test]
    fn sorted_and_never_through_a_link() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        for name in ["b", "a", "a.b"] {
            dir.make_dir(OsStr::new(name)).unwrap();
            let inner = dir.open_dir(OsStr::new(name)).unwrap();
            inner.make_file(OsStr::new("f")).unwrap();
        }
        dir.make_link(OsStr::new("etc"), OsStr::new("/etc"))
            .unwrap();
        dir.make_node(OsStr::new("fifo"), Kind::Fifo, (0, 0))
            .unwrap();
        let mut warnings = Warnings::default();
        let expected = ["", "a", "a/f", "a.b", "a.b/f", "b", "b/f", "etc", "fifo"];
        assert_eq!(paths(tmp.path(), &mut warnings), expected);
        assert_eq!(warnings, Warnings::default());
    }

    /// What a walk of 600 directories in each other sees, and how often it warns.
    fn nested(name: &str) -> (usize, u64) {
        let tmp = tempfile::tempdir().unwrap();
        let name = OsStr::new(name);
        let mut dir = Dir::open(tmp.path()).unwrap();
        for _ in 0..600 {
            dir.make_dir(name).unwrap();
            dir = dir.open_dir(name).unwrap();
        }
        let mut warnings = Warnings::default();
        let seen = paths(tmp.path(), &mut warnings).len();
        Dir::open(tmp.path()).unwrap().remove_tree(name).unwrap();
        (seen, warnings.count)
    }

    #[test]
    fn t14_a_tree_that_is_too_deep_is_cut() {
        assert_eq!(nested("d"), (DEPTH_MAX + 1, 1));
    }

    #[test]
    fn t21_names_beyond_the_bound_are_an_error() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        for name in ["aa", "bb", "cc"] {
            dir.make_file(OsStr::new(name)).unwrap();
        }
        assert_eq!(names_of(&dir, 9).unwrap().len(), 3);
        let said = names_of(&dir, 8).unwrap_err().to_string();
        assert!(said.contains("more than the 64 MiB"), "{said}");
    }

    #[test]
    fn t14_a_path_that_is_too_long_is_cut() {
        // 20 bytes for each, the first without a '/'; the top is seen too.
        let whole = (PATH_BYTES_MAX + 1) / 20;
        assert_eq!(nested("nineteen-characters"), (whole + 1, 1));
    }
}
