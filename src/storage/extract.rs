// SPDX-License-Identifier: Apache-2.0
//! Writing the members of a layer into a directory.
//!
//! Nothing in a layer leaves its directory: parents are found by `sys::root`, entries are made by
//! `sys::dir`, and names with `..` are refused. What the OCI image specification calls whiteouts
//! becomes what overlayfs understands: a character device 0:0, and `trusted.overlay.opaque`. The
//! directory is private to us until it is whole, so nobody swaps what is in it meanwhile.

use std::ffi::OsStr;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use super::facts::Known;
use super::member::{Member, MemberKind, printable};
use super::names::{AUFS, OPAQUE, OPAQUE_XATTR, WHITEOUT, XattrRule, components, xattr_rule};
use crate::digest::{Digest, Hashing};
use crate::sys::dir::{self, Dir, Kind, Space, Time};
use crate::sys::root::{Links, Root};

/// Most entries in one layer; larger layers do not occur, and an inode costs a file system more
/// than it costs a layer.
const ENTRIES_MAX: u64 = 1_000_000;

/// How much is written before free space is looked at again: less than what is left free even on
/// a small file system.
const SPACE_CHECK_BYTES: u64 = 1 << 20;
const SPACE_CHECK_ENTRIES: u64 = 256;

/// Free space and inodes that unpacking leaves, or a twentieth of the file system if that is less:
/// a full file system stops containers that have nothing to do with this one.
const FREE_BYTES_MIN: u64 = 128 << 20;
const FREE_INODES_MIN: u64 = 10_000;

/// Mode of directories that a layer does not list but puts something into; their owner is root.
const IMPLIED_DIR_MODE: u32 = 0o755;

/// What happened while a layer was unpacked, for warnings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes {
    /// Members that replaced one before them in the same layer.
    pub replaced: u64,
    /// Extended attributes that are not on the list of allowed ones.
    pub dropped_xattrs: u64,
}

impl Notes {
    /// What people should know about the layer `diff_id`.
    pub fn warnings(&self, diff_id: &Digest) -> Vec<String> {
        let Self {
            replaced,
            dropped_xattrs,
        } = *self;
        let texts = [
            (replaced, "entries were there before, the last one counts"),
            (
                dropped_xattrs,
                "extended attributes are not allowed in images, ignoring",
            ),
        ];
        texts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("layer {}: {count} {what}", diff_id.short()))
            .collect()
    }
}

/// Writes members into one directory.
#[derive(Debug)]
pub struct Extractor {
    root: Root,
    strict: Root,
    /// Where replaced trees are moved to be removed; outside `root`, on the same file system.
    trash: Dir,
    /// The directory of the last member, which most members share.
    parent: Option<Parent>,
    /// Contents of the files written, so that nobody has to read them again.
    known: Known,
    notes: Notes,
    entries: u64,
    unchecked_entries: u64,
    unchecked_bytes: u64,
    buffer: Vec<u8>,
}

/// A directory in which entries are made. Each of them changes its time, which is set back when
/// another directory has its turn.
#[derive(Debug)]
struct Parent {
    key: Vec<u8>,
    dir: Dir,
    time: Time,
}

/// What was in the way of a member and has been removed.
#[derive(Debug, PartialEq, Eq)]
enum Cleared {
    Nothing,
    Whiteout,
    Entry,
}

impl Extractor {
    /// Writes into `dir`, which is empty; `trash` is a directory beside it.
    pub fn new(dir: &Path, trash: &Path) -> anyhow::Result<Self> {
        let root = Root::open(dir)?;
        let own = Dir::open(dir)?;
        dir::set_owner_and_mode(&own, (0, 0), IMPLIED_DIR_MODE).or_else(|err| {
            // Without privileges everything belongs to the user who unpacks.
            if err.kind() == io::ErrorKind::PermissionDenied {
                Ok(())
            } else {
                Err(err)
            }
        })?;
        let extractor = Self {
            root,
            strict: Root::open_with(dir, Links::Refused)?,
            trash: Dir::open(trash)?,
            parent: None,
            known: Known::default(),
            notes: Notes::default(),
            entries: 0,
            unchecked_entries: 0,
            unchecked_bytes: 0,
            buffer: vec![0; 64 << 10],
        };
        extractor.check_space()?;
        Ok(extractor)
    }

    /// Writes one member, whose content `content` gives.
    pub fn write(&mut self, member: &Member, content: &mut dyn Read) -> anyhow::Result<()> {
        self.write_member(member, content)
            .with_context(|| format!("unpacking entry '{}'", printable(&member.path)))
    }

    /// Ends when all members are written: what is known of the files, and what happened.
    pub fn finish(mut self) -> anyhow::Result<(Known, Notes)> {
        self.leave_parent()?;
        Ok((self.known, self.notes))
    }

    fn write_member(&mut self, member: &Member, content: &mut dyn Read) -> anyhow::Result<()> {
        self.entries += 1;
        ensure!(
            self.entries <= ENTRIES_MAX,
            "more than {ENTRIES_MAX} entries in one layer"
        );
        self.account(0)?;
        let path = components(&member.path)?;
        let Some((name, parents)) = path.split_last() else {
            ensure!(
                member.kind == MemberKind::Directory,
                "the layer's root can only be a directory"
            );
            self.leave_parent()?;
            let root = Dir::from(self.root.open_readable_dir(Path::new("."))?);
            return self.set_dir_attributes(&root, member);
        };
        if parents.iter().any(|parent| parent.starts_with(AUFS)) {
            return Ok(());
        }
        ensure!(
            !parents.iter().any(|parent| parent.starts_with(WHITEOUT)),
            "a directory name begins with '.wh.', which marks removed names"
        );
        if let Some(removed) = name.strip_prefix(WHITEOUT) {
            return self.write_whiteout(parents, name, removed);
        }
        let parent = self.take_parent(parents)?;
        let name = OsStr::from_bytes(name);
        self.write_entry(&parent.dir, name, member, content)?;
        self.parent = Some(parent);
        Ok(())
    }

    fn write_entry(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        member: &Member,
        content: &mut dyn Read,
    ) -> anyhow::Result<()> {
        match member.kind {
            MemberKind::File => self.write_file(parent, name, member, content),
            MemberKind::Directory => self.write_dir(parent, name, member),
            MemberKind::HardLink => self.write_hard_link(parent, name, member),
            MemberKind::Link => {
                ensure!(!member.link.is_empty(), "a symbolic link to nothing");
                self.clear(parent, name)?;
                parent.make_link(name, OsStr::from_bytes(&member.link))?;
                parent.set_owner(name, member.uid, member.gid)?;
                self.notes.dropped_xattrs += member.xattrs.len() as u64;
                Ok(parent.set_time(name, member.time)?)
            }
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => {
                let kind = match member.kind {
                    MemberKind::CharDevice => Kind::CharDevice,
                    MemberKind::BlockDevice => Kind::BlockDevice,
                    _ => Kind::Fifo,
                };
                // overlayfs would take it for a whiteout of ours.
                ensure!(
                    kind != Kind::CharDevice || member.device != (0, 0),
                    "a character device 0:0, which would hide a name of lower layers"
                );
                self.clear(parent, name)?;
                parent.make_node(name, kind, member.device)?;
                parent.set_owner(name, member.uid, member.gid)?;
                parent.set_mode(name, member.mode)?;
                self.notes.dropped_xattrs += member.xattrs.len() as u64;
                Ok(parent.set_time(name, member.time)?)
            }
        }
    }

    fn write_file(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        member: &Member,
        content: &mut dyn Read,
    ) -> anyhow::Result<()> {
        let file = match parent.make_file(name) {
            // Mostly there is nothing, so looking first would be in vain.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                self.clear(parent, name)?;
                parent.make_file(name)?
            }
            made => made?,
        };
        let mut file = Hashing::new(file);
        let mut left = member.size;
        let mut buffer = std::mem::take(&mut self.buffer);
        while left > 0 {
            let n = match content.read(&mut buffer) {
                Ok(0) => bail!("unexpected end of the archive"),
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err.into()),
            };
            file.write_all(buffer.get(..n).unwrap_or_default())?;
            left = left.saturating_sub(n as u64);
            self.account(n as u64)?;
        }
        self.buffer = buffer;
        let (digest, _, file) = file.finish();
        // In this order: chown(2) clears setuid and file capabilities (threats T12).
        dir::set_owner_and_mode(&file, (member.uid, member.gid), member.mode)?;
        self.set_xattrs(&file, member)?;
        dir::set_time(&file, member.time)?;
        if member.xattrs.is_empty() {
            self.known.insert(dir::inode(&file)?, digest);
        }
        Ok(())
    }

    fn write_dir(&mut self, parent: &Dir, name: &OsStr, member: &Member) -> anyhow::Result<()> {
        let found = parent.entry(name)?;
        let mut cleared = Cleared::Nothing;
        if found.is_none_or(|entry| entry.kind != Kind::Directory) {
            cleared = self.clear(parent, name)?;
            parent.make_dir(name)?;
        }
        let made = parent.open_dir(name)?;
        if cleared == Cleared::Whiteout {
            set_opaque(&made)?;
        }
        self.set_dir_attributes(&made, member)
    }

    fn set_dir_attributes(&mut self, dir: &Dir, member: &Member) -> anyhow::Result<()> {
        dir::set_owner_and_mode(dir, (member.uid, member.gid), member.mode)?;
        self.set_xattrs(dir, member)?;
        Ok(dir::set_time(dir, member.time)?)
    }

    /// A hard link's target is a name in this layer, never followed and never made.
    fn write_hard_link(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        member: &Member,
    ) -> anyhow::Result<()> {
        let target = components(&member.link)
            .with_context(|| format!("hard link to '{}'", printable(&member.link)))?;
        let absent = || {
            format!(
                "hard link to '{}', which is not in this layer",
                printable(&member.link)
            )
        };
        let Some((target_name, target_parents)) = target.split_last() else {
            bail!(absent());
        };
        let from = self
            .root
            .open_readable_dir(&joined(target_parents))
            .with_context(absent)?;
        let from = Dir::from(from);
        let target_name = OsStr::from_bytes(target_name);
        let found = match from.entry(target_name)? {
            Some(entry) if entry.kind != Kind::Directory && !entry.is_whiteout() => entry,
            Some(_) | None => bail!(absent()),
        };
        let existing = parent.entry(name)?;
        if existing.is_some_and(|entry| entry.inode == found.inode) {
            return Ok(());
        }
        self.clear(parent, name)?;
        Ok(parent.make_hard_link(name, &from, target_name)?)
    }

    fn write_whiteout(
        &mut self,
        parents: &[&[u8]],
        name: &[u8],
        removed: &[u8],
    ) -> anyhow::Result<()> {
        if name != OPAQUE && name.starts_with(AUFS) {
            return Ok(());
        }
        ensure!(
            !matches!(removed, b"" | b"." | b".."),
            "a whiteout that names nothing"
        );
        let kept = self.take_parent(parents)?;
        let parent = &kept.dir;
        if name == OPAQUE {
            set_opaque(parent)?;
        } else {
            let removed = OsStr::from_bytes(removed);
            match parent.entry(removed)? {
                None => parent.make_node(removed, Kind::CharDevice, (0, 0))?,
                // It hides only lower layers: what this layer puts there stays, and a directory
                // must not show what lower layers have in it.
                Some(entry) if entry.kind == Kind::Directory => {
                    set_opaque(&parent.open_dir(removed)?)?;
                }
                Some(_) => {}
            }
        }
        self.parent = Some(kept);
        Ok(())
    }

    /// Removes what is in the way; the last member of a name wins.
    fn clear(&mut self, parent: &Dir, name: &OsStr) -> anyhow::Result<Cleared> {
        let Some(entry) = parent.entry(name)? else {
            return Ok(Cleared::Nothing);
        };
        if entry.is_whiteout() {
            parent.remove(name)?;
            return Ok(Cleared::Whiteout);
        }
        self.notes.replaced += 1;
        if entry.kind == Kind::Directory {
            let moved = OsStr::new("replaced");
            parent.rename(name, &self.trash, moved)?;
            self.trash.remove_tree(moved)?;
            self.known.clear();
        } else {
            let (_, inode) = entry.inode;
            self.known.remove(inode);
            parent.remove(name)?;
        }
        Ok(Cleared::Entry)
    }

    /// The directory that `parents` name, made where it is absent. It is taken out of the cache:
    /// when something goes wrong or is replaced, nothing stale stays there.
    fn take_parent(&mut self, parents: &[&[u8]]) -> anyhow::Result<Parent> {
        let key = parents.join(&b'/');
        if let Some(parent) = self.parent.take_if(|cached| cached.key == key) {
            return Ok(parent);
        }
        self.leave_parent()?;
        let dir = match self.strict.open_readable_dir(&joined(parents)) {
            Ok(fd) => Dir::from(fd),
            Err(_) => self
                .ensure_parents(parents)
                .with_context(|| format!("making its directory '{}'", printable(&key)))?,
        };
        let time = dir::time(&dir)?;
        Ok(Parent { key, dir, time })
    }

    fn leave_parent(&mut self) -> anyhow::Result<()> {
        match self.parent.take() {
            Some(parent) => Ok(dir::set_time(&parent.dir, parent.time)?),
            None => Ok(()),
        }
    }

    /// Walks down, link by link inside the root. Absent directories are made, a file in the way is
    /// replaced; a symbolic link that leads to no directory is an error.
    fn ensure_parents(&mut self, parents: &[&[u8]]) -> anyhow::Result<Dir> {
        let mut dir = Dir::from(self.root.open_readable_dir(Path::new("."))?);
        for (index, name) in parents.iter().enumerate() {
            let name = OsStr::from_bytes(name);
            let done = joined(parents.get(..=index).unwrap_or_default());
            dir = match dir.entry(name)?.map(|entry| entry.kind) {
                Some(Kind::Directory) => dir.open_dir(name)?,
                Some(Kind::Link) => {
                    let target = self.root.open_readable_dir(&done);
                    Dir::from(target.with_context(|| {
                        format!(
                            "'{}' is a link that leads to no directory of this layer",
                            printable(done.as_os_str().as_bytes())
                        )
                    })?)
                }
                Some(
                    Kind::File | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Other,
                )
                | None => {
                    let time = dir::time(&dir)?;
                    let cleared = self.clear(&dir, name)?;
                    dir.make_dir(name)?;
                    self.account(0)?;
                    dir::set_time(&dir, time)?;
                    let made = dir.open_dir(name)?;
                    dir::set_owner_and_mode(&made, (0, 0), IMPLIED_DIR_MODE)?;
                    if cleared == Cleared::Whiteout {
                        set_opaque(&made)?;
                    }
                    made
                }
            };
        }
        Ok(dir)
    }

    fn set_xattrs<F: std::os::fd::AsFd>(&mut self, fd: F, member: &Member) -> anyhow::Result<()> {
        for (name, value) in &member.xattrs {
            let kept = match xattr_rule(name, member.kind) {
                XattrRule::Drop => false,
                XattrRule::Must => {
                    dir::set_xattr(&fd, OsStr::from_bytes(name), value)?;
                    true
                }
                // File systems differ in which and how many they store.
                XattrRule::May => dir::set_xattr(&fd, OsStr::from_bytes(name), value).is_ok(),
            };
            self.notes.dropped_xattrs += u64::from(!kept);
        }
        Ok(())
    }

    /// Counts what is written, and looks at the free space now and then.
    fn account(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.unchecked_bytes += bytes;
        self.unchecked_entries += u64::from(bytes == 0);
        if self.unchecked_bytes < SPACE_CHECK_BYTES && self.unchecked_entries < SPACE_CHECK_ENTRIES
        {
            return Ok(());
        }
        (self.unchecked_bytes, self.unchecked_entries) = (0, 0);
        self.check_space()
    }

    fn check_space(&self) -> anyhow::Result<()> {
        let space = self.trash.space()?;
        let free = if space.bytes < floor(&space) {
            format!("{} MiB", space.bytes >> 20)
        } else if space.inodes < inode_floor(&space) {
            format!("{} inodes", space.inodes)
        } else {
            return Ok(());
        };
        // Like the error that would come next: nothing is wrong with the layer.
        let full = io::Error::from(rustix::io::Errno::NOSPC);
        Err(full).context(format!(
            "only {free} are free; make room, for example with 'wharf image rm'"
        ))
    }
}

/// Bytes of a file system that unpacking leaves free.
pub fn floor(space: &Space) -> u64 {
    FREE_BYTES_MIN.min(space.bytes_total / 20)
}

/// Inodes of a file system that unpacking leaves free.
pub fn inode_floor(space: &Space) -> u64 {
    FREE_INODES_MIN.min(space.inodes_total / 20)
}

fn set_opaque(dir: &Dir) -> anyhow::Result<()> {
    Ok(dir::set_xattr(dir, OsStr::new(OPAQUE_XATTR), b"y")?)
}

fn joined(components: &[&[u8]]) -> std::path::PathBuf {
    components
        .iter()
        .map(|name| OsStr::from_bytes(name))
        .collect()
}
