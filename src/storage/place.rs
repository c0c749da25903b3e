// SPDX-License-Identifier: Apache-2.0
//! Putting files into a tree that is in use: a container's for `cp` into it, the host's for `cp`
//! out of it.
//!
//! Everything is below one held directory, found name by name without following a link; whoever
//! swaps a directory for a link meanwhile gets an error and not our files (threats F1, F4).
//! A file is written under a temporary name and renamed, so that programs see the old one or the new
//! one. Unlike `extract`, names have no meaning here: `.wh.x` is a file.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, bail, ensure};

use super::member::{Member, MemberKind, printable};
use super::names::{XattrRule, components, xattr_rule};
use super::pack::xattrs_of;
use super::walk::Warnings;
use crate::sys;
use crate::sys::copy::copy_content;
use crate::sys::dir::{self, Dir, Kind, Time};

/// Mode of directories that an archive does not list but puts something into.
const IMPLIED_DIR_MODE: u32 = 0o755;

/// Names of what is not whole yet: this, the process and a number.
const TEMPORARY: &str = ".wharf-cp-";

/// What is kept of an entry besides its content, its permissions and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Owner, setuid bits, attributes; devices and FIFOs become what they are.
    All,
    /// Nothing: all belongs to this owner, and what is no file, directory or link is left out.
    Content {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Where content comes from.
pub enum Content<'a> {
    /// There is none.
    None,
    /// A file, which may have holes.
    File(&'a File),
    /// Part of an archive.
    Stream(&'a mut dyn Read),
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::File(_) => "File",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Puts entries below one directory.
#[derive(Debug)]
pub struct Placer {
    top: Dir,
    /// The directories on the way to the last entry.
    levels: Vec<Level>,
    keep: Keep,
    /// Times of directories by path; set when nothing more is put there, as each entry changes them.
    times: BTreeMap<Vec<Vec<u8>>, Time>,
    serial: u64,
    buffer: Vec<u8>,
    /// What was left out.
    pub warnings: Warnings,
}

#[derive(Debug)]
struct Level {
    name: Vec<u8>,
    dir: Dir,
}

impl Placer {
    /// Puts entries below `top`.
    pub fn new(top: Dir, keep: Keep) -> Self {
        sweep(&top);
        Self {
            top,
            levels: Vec::new(),
            keep,
            times: BTreeMap::new(),
            serial: 0,
            buffer: vec![0; 64 << 10],
            warnings: Warnings::default(),
        }
    }

    /// Whether devices and FIFOs are placed, and not left out with a word.
    pub fn keeps_special(&self) -> bool {
        self.keep == Keep::All
    }

    /// Puts one entry. A directory that is there stays and gets what is in the other one; a file or
    /// a link is replaced.
    ///
    /// # Errors
    ///
    /// One of the two is a directory and the other is none.
    pub fn place(&mut self, member: &Member, content: Content<'_>) -> anyhow::Result<()> {
        let shown = || format!("copying '{}'", printable(&member.path));
        self.place_member(member, content).with_context(shown)
    }

    /// Sets the times of directories.
    pub fn finish(mut self) -> anyhow::Result<Warnings> {
        for (path, time) in std::mem::take(&mut self.times) {
            let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            // Somebody else may have removed it meanwhile.
            if self.descend(&path, Missing::Error).is_ok() {
                dir::set_time(self.current(), time)?;
            }
        }
        Ok(self.warnings)
    }

    fn place_member(&mut self, member: &Member, content: Content<'_>) -> anyhow::Result<()> {
        let path = components(&member.path)?;
        let Some((name, parents)) = path.split_last() else {
            // The destination itself stays as it is.
            return Ok(());
        };
        let os_name = OsStr::from_bytes(name);
        match member.kind {
            MemberKind::Directory => self.place_dir(member, &path),
            MemberKind::File => self.place_file(parents, os_name, member, content),
            MemberKind::Link => {
                ensure!(!member.link.is_empty(), "a symbolic link to nothing");
                self.replace(parents, os_name, |placer, parent, temporary| {
                    parent.make_link(temporary, OsStr::from_bytes(&member.link))?;
                    placer.finish_entry(parent, temporary, member, Kind::Link)
                })
            }
            MemberKind::HardLink => self.place_hard_link(parents, os_name, member),
            MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => {
                if self.keep != Keep::All {
                    let fact = "is a device or a FIFO, leaving it out ('--archive' copies it)";
                    self.warnings.add(&member.path, fact);
                    return Ok(());
                }
                let kind = match member.kind {
                    MemberKind::CharDevice => Kind::CharDevice,
                    MemberKind::BlockDevice => Kind::BlockDevice,
                    _ => Kind::Fifo,
                };
                self.replace(parents, os_name, |placer, parent, temporary| {
                    parent.make_node(temporary, kind, member.device)?;
                    placer.finish_entry(parent, temporary, member, kind)
                })
            }
        }
    }

    fn place_dir(&mut self, member: &Member, path: &[&[u8]]) -> anyhow::Result<()> {
        let last = self.descend(path, Missing::Make)?;
        if last == Last::Made || self.keep == Keep::All {
            let (owner, mode) = self.owner_and_mode(member);
            dir::set_owner_and_mode(self.current(), owner, mode)?;
            self.set_xattrs(self.current(), member)?;
            let key = path.iter().map(|name| name.to_vec()).collect();
            self.times.insert(key, member.time);
        }
        Ok(())
    }

    fn place_hard_link(
        &mut self,
        parents: &[&[u8]],
        name: &OsStr,
        member: &Member,
    ) -> anyhow::Result<()> {
        let target = components(&member.link)?;
        let absent = || {
            format!(
                "hard link to '{}', which is not there",
                printable(&member.link)
            )
        };
        let Some((target_name, target_parents)) = target.split_last() else {
            bail!(absent());
        };
        let target_name = OsStr::from_bytes(target_name);
        self.descend(target_parents, Missing::Error)
            .with_context(absent)?;
        let from = Dir::reopen(self.current())?;
        self.replace(parents, name, |placer, parent, temporary| {
            match parent.make_hard_link(temporary, &from, target_name) {
                Err(err) if cannot_be_linked(&err) => {
                    placer.copy_target(parent, temporary, (&from, target_name), member)
                }
                other => other.with_context(absent),
            }
        })
    }

    /// Makes a file like the one that a hard link was to lead to.
    fn copy_target(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        (from, target): (&Dir, &OsStr),
        member: &Member,
    ) -> anyhow::Result<()> {
        let held = from.hold(target)?;
        let held = held.filter(|held| held.entry().kind == Kind::File);
        let held = held.context("a hard link cannot lead there, and it is no file to copy")?;
        let content = held.read()?;
        let entry = held.look_again()?;
        let copy = Member {
            kind: MemberKind::File,
            size: entry.size,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            time: entry.time,
            xattrs: xattrs_of(&content)?,
            ..member.clone()
        };
        self.warnings
            .add(&member.path, "cannot be a hard link there, copying it");
        self.make_file(parent, name, &copy, Content::File(&content))
    }

    /// Has `make` make an entry under a temporary name, and gives it its own.
    fn replace(
        &mut self,
        parents: &[&[u8]],
        name: &OsStr,
        make: impl FnOnce(&mut Self, &Dir, &OsStr) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.descend(parents, Missing::Make)?;
        let parent = Dir::reopen(self.current())?;
        if let Some(existing) = parent.hold(name)? {
            ensure!(
                existing.entry().kind != Kind::Directory,
                "there is a directory of that name, which is not replaced"
            );
            ensure!(
                !existing.is_mount_root()?,
                "something is mounted there, which only a file's content can go into"
            );
        }
        self.serial += 1;
        let temporary = format!("{TEMPORARY}{}-{}", std::process::id(), self.serial);
        let temporary = OsStr::new(&temporary);
        let renamed = make(self, &parent, temporary)
            .and_then(|()| Ok(parent.rename(temporary, &parent, name)?));
        // Renaming a hard link onto another one of the same file does nothing.
        match parent.remove(temporary) {
            Err(err) if !err.is_absent() && renamed.is_ok() => Err(err.into()),
            Ok(()) | Err(_) => renamed,
        }
    }

    fn place_file(
        &mut self,
        parents: &[&[u8]],
        name: &OsStr,
        member: &Member,
        content: Content<'_>,
    ) -> anyhow::Result<()> {
        self.descend(parents, Missing::Make)?;
        // A file that is mounted there, such as /etc/hosts: only its content can change.
        let mounted = match self.current().hold(name)? {
            Some(held) if held.entry().kind == Kind::File && held.is_mount_root()? => held,
            Some(_) | None => {
                return self.replace(parents, name, |placer, parent, temporary| {
                    placer.make_file(parent, temporary, member, content)
                });
            }
        };
        self.write_content(&mut mounted.overwrite()?, member, content)
    }

    fn make_file(
        &mut self,
        parent: &Dir,
        name: &OsStr,
        member: &Member,
        content: Content<'_>,
    ) -> anyhow::Result<()> {
        let mut file = parent.make_file(name)?;
        self.write_content(&mut file, member, content)?;
        let (owner, mode) = self.owner_and_mode(member);
        dir::set_owner_and_mode(&file, owner, mode)?;
        self.set_xattrs(&file, member)?;
        Ok(dir::set_time(&file, member.time)?)
    }

    fn write_content(
        &mut self,
        file: &mut File,
        member: &Member,
        content: Content<'_>,
    ) -> anyhow::Result<()> {
        match content {
            Content::None => {}
            Content::File(from) => {
                let had = copy_content(from, file, member.size)?;
                if had < member.size {
                    let fact = "became shorter while it was read, filled with zeros";
                    self.warnings.add(&member.path, fact);
                }
            }
            Content::Stream(from) => {
                let copied = self.copy_stream(from, file)?;
                ensure!(copied == member.size, "unexpected end of the archive");
            }
        }
        Ok(())
    }

    fn copy_stream(&mut self, from: &mut dyn Read, to: &mut File) -> anyhow::Result<u64> {
        let mut copied = 0;
        loop {
            match from.read(&mut self.buffer) {
                Ok(0) => return Ok(copied),
                Ok(n) => {
                    to.write_all(self.buffer.get(..n).unwrap_or_default())?;
                    copied += n as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    /// Owner, mode and time of a link, a device or a FIFO that was just made.
    fn finish_entry(
        &self,
        parent: &Dir,
        name: &OsStr,
        member: &Member,
        kind: Kind,
    ) -> anyhow::Result<()> {
        let held = parent.hold(name)?.filter(|held| held.entry().kind == kind);
        let held = held.context("somebody else replaced it while it was copied")?;
        let (owner, mode) = self.owner_and_mode(member);
        held.set_owner_and_mode(owner, mode)?;
        Ok(held.set_time(member.time)?)
    }

    fn owner_and_mode(&self, member: &Member) -> ((u32, u32), u32) {
        match self.keep {
            Keep::All => ((member.uid, member.gid), member.mode),
            // Whose program it is has changed, and with that whose rights it would run with.
            Keep::Content { uid, gid } => ((uid, gid), member.mode & 0o1777),
        }
    }

    fn set_xattrs<F: std::os::fd::AsFd>(&self, fd: F, member: &Member) -> anyhow::Result<()> {
        for (name, value) in &member.xattrs {
            let name_here = OsStr::from_bytes(name);
            match (xattr_rule(name, member.kind), self.keep) {
                (XattrRule::Must, Keep::All) => dir::set_xattr(&fd, name_here, value)?,
                // File systems differ in which and how many they store.
                (XattrRule::May, Keep::All) => drop(dir::set_xattr(&fd, name_here, value)),
                (XattrRule::Drop, _) | (_, Keep::Content { .. }) => {}
            }
        }
        Ok(())
    }

    /// The directory that [`Placer::descend`] went to last.
    fn current(&self) -> &Dir {
        self.levels.last().map_or(&self.top, |level| &level.dir)
    }

    /// Goes to the directory with this path below the top. Most entries are in the directory of the
    /// one before, or in one below or above it.
    fn descend(&mut self, path: &[&[u8]], missing: Missing) -> anyhow::Result<Last> {
        let common = self
            .levels
            .iter()
            .zip(path)
            .take_while(|(level, name)| level.name == **name)
            .count();
        self.levels.truncate(common);
        let mut last = Last::Found;
        for name in path.get(common..).unwrap_or_default() {
            let parent = self.current();
            let os_name = OsStr::from_bytes(name);
            last = Last::Found;
            let dir = match parent.hold(os_name)? {
                Some(held) if held.entry().kind == Kind::Directory => {
                    let dir = held.open_dir()?;
                    sweep(&dir);
                    dir
                }
                Some(_) => bail!(
                    "'{}' is there and is no directory; it is not replaced, and a link not followed",
                    printable(name)
                ),
                None if missing == Missing::Error => bail!("'{}' is not there", printable(name)),
                None => {
                    last = Last::Made;
                    self.make_dir(parent, os_name)?
                }
            };
            self.levels.push(Level {
                name: name.to_vec(),
                dir,
            });
        }
        Ok(last)
    }

    fn make_dir(&self, parent: &Dir, name: &OsStr) -> anyhow::Result<Dir> {
        parent.make_dir(name)?;
        let made = parent.open_dir(name)?;
        let entry = made.own_entry()?;
        ensure!(
            entry.uid == rustix::process::geteuid().as_raw() && entry.mode & 0o777 == 0o700,
            "somebody else replaced '{}' while it was copied",
            printable(name.as_bytes())
        );
        let owner = match self.keep {
            Keep::All => (0, 0),
            Keep::Content { uid, gid } => (uid, gid),
        };
        dir::set_owner_and_mode(&made, owner, IMPLIED_DIR_MODE)?;
        Ok(made)
    }
}

/// Whether link(2) says that the file cannot have a name there: on another mount, with too many
/// already, or on a file system that knows no hard links (EPERM).
fn cannot_be_linked(err: &sys::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::CrossesDevices
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::PermissionDenied
    )
}

/// Removes what was not whole when its process was killed. A process that is at it is there.
fn sweep(dir: &Dir) {
    // What stays is in nobody's way.
    for name in dir.names().unwrap_or_default() {
        if sys::process::is_left_over(&name, TEMPORARY) {
            dir.remove(&name).ok();
        }
    }
}

/// What becomes of directories that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Error,
}

/// Whether the last directory of a path was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Made,
    Found,
}
