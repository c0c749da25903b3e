// SPDX-License-Identifier: Apache-2.0
//! Making and removing entries of an open directory.
//!
//! Every call takes one name, never a path, and follows no symbolic link, so that what an image
//! put into the directory cannot lead anywhere else. Finding the directory is `sys::root`'s part.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::{Error, Result};

mod names;
pub use names::Names;

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A FIFO.
    Fifo,
    /// A socket, or something newer.
    Other,
}

/// What lstat(2) says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its type.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device number of a device.
    pub device: (u32, u32),
    /// File system and inode.
    pub inode: (u64, u64),
    /// Names that lead to the inode.
    pub links: u64,
    /// Time of last modification.
    pub time: Time,
}

impl Entry {
    /// Whether overlayfs takes the entry for "this name is removed": a character device 0:0.
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::CharDevice && self.device == (0, 0)
    }

    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket | FileType::Unknown => Kind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            device: (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            ),
            inode: (stat.st_dev, stat.st_ino),
            links: stat.st_nlink,
            time: Time {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
        }
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, less than 10⁹.
    pub nanoseconds: u32,
}

impl Time {
    pub(super) fn stamps(self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.seconds,
            tv_nsec: i64::from(self.nanoseconds),
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

impl Dir {
    /// Opens the directory `path`, which is ours all the way.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(Self::from)
            .map_err(|err| Error::new(format!("open({path:?}, O_DIRECTORY)"), err))
    }

    /// Opens the directory that `fd`, perhaps an `O_PATH` one, is.
    pub fn reopen(fd: impl AsFd) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(fd, ".", flags, Mode::empty())
            .map(Self::from)
            .map_err(|err| Error::new("open(\".\", O_DIRECTORY)", err))
    }

    /// Opens the directory `name` in this one; a link is an error.
    pub fn open_dir(&self, name: &OsStr) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, component(name)?, flags, Mode::empty())
            .map(Self::from)
            .map_err(|err| failed("open", name, err))
    }

    /// Opens the regular file `name` for reading; a link or a device is an error.
    pub fn open_file(&self, name: &OsStr) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let entry = self.entry(name)?;
        if entry.is_none_or(|entry| entry.kind != Kind::File) {
            return Err(failed("open", name, Errno::NOENT));
        }
        rustix::fs::openat(&self.fd, component(name)?, flags, Mode::empty())
            .map(File::from)
            .map_err(|err| failed("open", name, err))
    }

    /// What `name` is; none when it is absent.
    pub fn entry(&self, name: &OsStr) -> Result<Option<Entry>> {
        match rustix::fs::statat(&self.fd, component(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Entry::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(err) => Err(failed("lstat", name, err)),
        }
    }

    /// What the directory itself is.
    pub fn own_entry(&self) -> Result<Entry> {
        rustix::fs::fstat(&self.fd)
            .map(|stat| Entry::of(&stat))
            .map_err(|err| Error::new("fstat()", err))
    }

    /// Makes a directory, mode 0700.
    pub fn make_dir(&self, name: &OsStr) -> Result<()> {
        rustix::fs::mkdirat(&self.fd, component(name)?, Mode::RWXU)
            .map_err(|err| failed("mkdir", name, err))
    }

    /// Makes an empty file, mode 0600, open for writing.
    pub fn make_file(&self, name: &OsStr) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, component(name)?, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(|err| failed("create", name, err))
    }

    /// Makes a symbolic link; what it points to is stored as it is.
    pub fn make_link(&self, name: &OsStr, target: &OsStr) -> Result<()> {
        rustix::fs::symlinkat(target, &self.fd, component(name)?)
            .map_err(|err| failed("symlink", name, err))
    }

    /// Gives the entry `from_name` of `from` a second name here. A symbolic link is not followed.
    pub fn make_hard_link(&self, name: &OsStr, from: &Self, from_name: &OsStr) -> Result<()> {
        let from_name = component(from_name)?;
        let name_here = component(name)?;
        rustix::fs::linkat(&from.fd, from_name, &self.fd, name_here, AtFlags::empty())
            .map_err(|err| failed("link", name, err))
    }

    /// Makes a device node or a FIFO, mode 0600.
    pub fn make_node(&self, name: &OsStr, kind: Kind, device: (u32, u32)) -> Result<()> {
        let file_type = match kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::File | Kind::Directory | Kind::Link | Kind::Other => {
                return Err(failed("mknod", name, Errno::INVAL));
            }
        };
        let device = rustix::fs::makedev(device.0, device.1);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&self.fd, component(name)?, file_type, mode, device)
            .map_err(|err| failed("mknod", name, err))
    }

    /// The target of the symbolic link `name`.
    pub fn read_link(&self, name: &OsStr) -> Result<OsString> {
        use std::os::unix::ffi::OsStringExt as _;
        rustix::fs::readlinkat(&self.fd, component(name)?, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .map_err(|err| failed("readlink", name, err))
    }

    /// Removes an entry that is not a directory.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::empty())
            .map_err(|err| failed("unlink", name, err))
    }

    /// Renames an entry into `to`; an entry of that name is replaced as rename(2) does.
    pub fn rename(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> Result<()> {
        rustix::fs::renameat(&self.fd, component(name)?, &to.fd, component(to_name)?)
            .map_err(|err| failed("rename", name, err))
    }

    /// Exchanges an entry with one of `to`, in one step: at no instant is either name absent.
    pub fn exchange(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> Result<()> {
        let (from, target) = (component(name)?, component(to_name)?);
        rustix::fs::renameat_with(&self.fd, from, &to.fd, target, RenameFlags::EXCHANGE)
            .map_err(|err| failed("renameat2(RENAME_EXCHANGE)", name, err))
    }

    /// Changes the owner of an entry; a symbolic link's own.
    pub fn set_owner(&self, name: &OsStr, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(&self.fd, component(name)?, Some(uid), Some(gid), flags)
            .map_err(|err| failed("chown", name, err))
    }

    /// Changes the mode of an entry that was just made and is no symbolic link.
    pub fn set_mode(&self, name: &OsStr, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::chmodat(&self.fd, component(name)?, mode, AtFlags::empty())
            .map_err(|err| failed("chmod", name, err))
    }

    /// Changes the time of an entry; a symbolic link's own.
    pub fn set_time(&self, name: &OsStr, time: Time) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(&self.fd, component(name)?, &time.stamps(), flags)
            .map_err(|err| failed("utimensat", name, err))
    }

    /// The names in the directory, unsorted, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.for_each_name(&mut |name| {
            names.push(name.to_owned());
            Ok(())
        })?;
        Ok(names)
    }

    /// Gives each name as it is read, unsorted, without `.` and `..`. Entries may be removed
    /// meanwhile.
    pub(super) fn for_each_name(&self, each: &mut dyn FnMut(&OsStr) -> Result<()>) -> Result<()> {
        let failed = |err| Error::new("getdents()", err);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(OsStr::from_bytes(name))?;
            }
        }
        Ok(())
    }

    /// Removes a tree however deep or wide it is, and whatever its modes are; absent is success.
    ///
    /// Directories are moved up to the top before they are emptied, so that neither the stack nor
    /// the number of open files grows with the depth, and names are not kept (threats T14, T21).
    pub fn remove_tree(&self, name: &OsStr) -> Result<()> {
        match self.entry(name)? {
            None => return Ok(()),
            Some(entry) if entry.kind == Kind::Directory => {}
            Some(_) => return self.remove(name),
        }
        let top = self.open_dir(name)?;
        let mut serial = 0_u64;
        let mut found_dir = true;
        while found_dir {
            found_dir = false;
            top.for_each_name(&mut |child| match top.entry(child)? {
                Some(entry) if entry.kind == Kind::Directory => {
                    found_dir = true;
                    top.flatten(child, &mut serial)
                }
                Some(_) => top.remove(child),
                None => Ok(()),
            })?;
        }
        drop(top);
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::REMOVEDIR)
            .map_err(|err| failed("rmdir", name, err))
    }

    /// Empties the directory `name`: files go, directories move up into this one.
    fn flatten(&self, name: &OsStr, serial: &mut u64) -> Result<()> {
        let dir = self.open_dir(name)?;
        dir.for_each_name(&mut |child| match dir.entry(child)? {
            Some(entry) if entry.kind == Kind::Directory => loop {
                *serial += 1;
                let moved = OsString::from(format!(".wharf-removed-{serial}"));
                if self.entry(&moved)?.is_none() {
                    return dir.rename(child, self, &moved);
                }
            },
            Some(_) => dir.remove(child),
            None => Ok(()),
        })?;
        rustix::fs::unlinkat(&self.fd, component(name)?, AtFlags::REMOVEDIR)
            .map_err(|err| failed("rmdir", name, err))
    }

    /// Takes the kernel's lock on the directory unless somebody has it. It is held until the
    /// directory is closed.
    pub fn try_lock(&self) -> Result<bool> {
        use rustix::fs::{FlockOperation, flock};
        match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(err) => Err(Error::new("flock()", err)),
        }
    }

    /// Flushes the file system that holds the directory.
    pub fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|err| Error::new("syncfs()", err))
    }

    /// Flushes the directory itself, so that names in it survive a power cut.
    pub fn sync(&self) -> Result<()> {
        rustix::fs::fsync(&self.fd).map_err(|err| Error::new("fsync()", err))
    }

    /// Free bytes and, where the file system counts them, free inodes, with the totals.
    pub fn space(&self) -> Result<Space> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(|err| Error::new("statvfs()", err))?;
        Ok(Space {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            bytes_total: stat.f_blocks.saturating_mul(stat.f_frsize),
            inodes: stat.f_favail,
            inodes_total: stat.f_files,
        })
    }
}

/// Room on a file system.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    /// Free bytes.
    pub bytes: u64,
    /// Bytes in all.
    pub bytes_total: u64,
    /// Free inodes.
    pub inodes: u64,
    /// Inodes in all; 0 where they are not counted.
    pub inodes_total: u64,
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Changes owner, then mode, of an open file: chown(2) clears setuid, so the mode comes second.
pub fn set_owner_and_mode(fd: impl AsFd, owner: (u32, u32), mode: u32) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(|err| Error::new("fchown()", err))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
        .map_err(|err| Error::new(format!("fchmod({mode:o})"), err))
}

/// Changes the times of an open file.
pub fn set_time(fd: impl AsFd, time: Time) -> Result<()> {
    rustix::fs::futimens(fd, &time.stamps()).map_err(|err| Error::new("futimens()", err))
}

/// The time of last modification of an open file.
pub fn time(fd: impl AsFd) -> Result<Time> {
    let stat = rustix::fs::fstat(fd).map_err(|err| Error::new("fstat()", err))?;
    Ok(Time {
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    })
}

/// The inode number of an open file.
pub fn inode(fd: impl AsFd) -> Result<u64> {
    let stat = rustix::fs::fstat(fd).map_err(|err| Error::new("fstat()", err))?;
    Ok(stat.st_ino)
}

/// Sets an extended attribute of an open file.
pub fn set_xattr(fd: impl AsFd, name: &OsStr, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
        .map_err(|err| failed("fsetxattr", name, err))
}

/// Reads an extended attribute of an open file; none when it is absent or not supported.
pub fn xattr(fd: impl AsFd, name: &OsStr) -> Result<Option<Vec<u8>>> {
    // The kernel's own limit (XATTR_SIZE_MAX).
    let mut value = Vec::with_capacity(65536);
    match rustix::fs::fgetxattr(fd, name, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => {
            // Many may be kept, most of a few bytes.
            value.shrink_to_fit();
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(err) => Err(failed("fgetxattr", name, err)),
    }
}

/// The names of the extended attributes of an open file, sorted.
pub fn xattr_names(fd: impl AsFd) -> Result<Vec<OsString>> {
    // The kernel's own limit (XATTR_LIST_MAX).
    let mut list = Vec::with_capacity(65536);
    match rustix::fs::flistxattr(fd, rustix::buffer::spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(err) => return Err(Error::new("flistxattr()", err)),
    }
    let mut names: Vec<OsString> = list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect();
    names.sort();
    Ok(names)
}

pub(super) fn component(name: &OsStr) -> Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(failed("open", name, Errno::INVAL));
    }
    Ok(name)
}

pub(super) fn failed(call: &str, name: &OsStr, err: Errno) -> Error {
    Error::new(
        format!("{call}({:?})", PathBuf::from(name)),
        io::Error::from(err),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_components() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        for bad in ["", ".", "..", "a/b", "/etc"] {
            assert!(dir.make_dir(OsStr::new(bad)).is_err(), "{bad:?}");
            assert!(dir.entry(OsStr::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_deep_tree_is_removed_with_few_descriptors() {
        let tmp = tempfile::tempdir().unwrap();
        let top = Dir::open(tmp.path()).unwrap();
        top.make_dir(OsStr::new("t")).unwrap();
        let mut dir = top.open_dir(OsStr::new("t")).unwrap();
        // Deeper than the default limit of open files and than PATH_MAX.
        for _ in 0..3000 {
            dir.make_file(OsStr::new("file")).unwrap();
            dir.make_link(OsStr::new("link"), OsStr::new("/etc/passwd"))
                .unwrap();
            dir.make_dir(OsStr::new("dd")).unwrap();
            dir = dir.open_dir(OsStr::new("dd")).unwrap();
        }
        drop(dir);
        top.remove_tree(OsStr::new("t")).unwrap();
        assert!(top.names().unwrap().is_empty());
        top.remove_tree(OsStr::new("t")).unwrap();
    }
}
