// SPDX-License-Identifier: Apache-2.0
//! An entry of a directory that somebody else may change at any moment, held by a descriptor.
//!
//! A container swaps files for links, devices or FIFOs while we look. What is held stays the same
//! inode: it is looked at first, and opened, changed or read only as what it was seen to be. A name
//! is looked up once and no symbolic link is followed (threats F1, F3).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::dir::{Dir, Entry, Kind, Time, component, failed};
use super::{Error, Result};

/// A held entry (`O_PATH`).
#[derive(Debug)]
pub struct Held {
    fd: OwnedFd,
    entry: Entry,
}

impl Dir {
    /// Takes hold of whatever `name` is, without opening it; none when it is absent.
    pub fn hold(&self, name: &OsStr) -> Result<Option<Held>> {
        Held::open(self.as_fd(), component(name)?)
    }
}

impl Held {
    pub(super) fn open(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => Self::from_fd(fd).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(failed("open", name, err)),
        }
    }

    /// Takes an `O_PATH` descriptor.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        let stat = rustix::fs::fstat(&fd).map_err(|err| Error::new("fstat()", err))?;
        let entry = Entry::of(&stat);
        Ok(Self { fd, entry })
    }

    /// What it was when it was taken hold of.
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// What it is now.
    pub fn look_again(&self) -> Result<Entry> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|err| Error::new("fstat()", err))?;
        Ok(Entry::of(&stat))
    }

    /// Opens a regular file for reading. Anything else is an error: opening a device or a FIFO has
    /// side effects.
    pub fn read(&self) -> Result<File> {
        self.reopen(OFlags::RDONLY | OFlags::NONBLOCK)
    }

    /// Opens a regular file for writing from its beginning, emptied.
    pub fn overwrite(&self) -> Result<File> {
        self.reopen(OFlags::WRONLY | OFlags::TRUNC)
    }

    fn reopen(&self, flags: OFlags) -> Result<File> {
        if self.entry.kind != Kind::File {
            return Err(Error::new("open()", Errno::INVAL));
        }
        let flags = flags | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, self.proc_path(), flags, Mode::empty())
            .map(File::from)
            .map_err(|err| Error::new("open()", err))
    }

    /// Opens a directory.
    pub fn open_dir(&self) -> Result<Dir> {
        Dir::reopen(&self.fd)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self) -> Result<OsString> {
        rustix::fs::readlinkat(&self.fd, "", Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(|err| Error::new("readlink()", err))
    }

    /// Changes owner, then mode: chown(2) clears setuid. A symbolic link has no mode.
    pub fn set_owner_and_mode(&self, owner: (u32, u32), mode: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        rustix::fs::chownat(&self.fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|err| Error::new("fchownat()", err))?;
        if self.entry.kind == Kind::Link {
            return Ok(());
        }
        // fchmod(2) refuses O_PATH, and fchmodat2(2) is newer than our oldest kernel.
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::chmodat(CWD, self.proc_path(), mode, AtFlags::empty())
            .map_err(|err| Error::new(format!("fchmodat({mode:?})"), err))
    }

    /// Changes the times.
    pub fn set_time(&self, time: Time) -> Result<()> {
        rustix::fs::utimensat(&self.fd, "", &time.stamps(), AtFlags::EMPTY_PATH)
            .map_err(|err| Error::new("utimensat()", err))
    }

    /// Whether it is what is mounted there, rather than what is below the mount.
    ///
    /// rename(2) and unlink(2) say EBUSY only for mounts of the caller's own namespace. A mount of
    /// another one they take away, and a container would lose its /etc/hosts.
    pub fn is_mount_root(&self) -> Result<bool> {
        use rustix::fs::{StatxAttributes, StatxFlags, statx};
        statx(&self.fd, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE)
            .map(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
            .map_err(|err| Error::new("statx()", err))
    }

    /// Leads to the inode itself, whatever became of its name.
    fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn f3_what_is_held_stays_what_it_was() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        let name = OsStr::new("x");
        dir.make_file(name).unwrap().write_all(b"text").unwrap();
        let file = dir.hold(name).unwrap().unwrap();
        dir.remove(name).unwrap();
        dir.make_node(name, Kind::Fifo, (0, 0)).unwrap();
        let fifo = dir.hold(name).unwrap().unwrap();
        let mut text = String::new();
        file.read().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(fifo.read().is_err());
        dir.remove(name).unwrap();
        dir.make_link(name, OsStr::new("/etc/passwd")).unwrap();
        let link = dir.hold(name).unwrap().unwrap();
        assert!(link.read().is_err() && link.open_dir().is_err());
        assert_eq!(link.read_link().unwrap(), "/etc/passwd");
        let before = std::fs::metadata("/etc/passwd").unwrap();
        link.set_owner_and_mode((7, 8), 0o777).unwrap();
        link.set_time(Time::default()).unwrap();
        fifo.set_owner_and_mode((7, 8), 0o4755).unwrap();
        assert_eq!(fifo.look_again().unwrap().mode, 0o4755);
        let after = std::fs::metadata("/etc/passwd").unwrap();
        assert_eq!(
            (before.uid(), before.mode(), before.mtime()),
            (after.uid(), after.mode(), after.mtime())
        );
        let own = std::fs::symlink_metadata(tmp.path().join("x")).unwrap();
        assert_eq!((own.uid(), own.gid(), own.mtime()), (7, 8, 0));
        assert!(dir.hold(OsStr::new("none")).unwrap().is_none());
        assert!(dir.hold(OsStr::new("a/b")).is_err());
    }
}
