// SPDX-License-Identifier: Apache-2.0
//! Files and directories by path, for trees that are wholly ours.
//!
//! What a container or an image can have written to is opened through `sys::root` instead, which
//! resolves below a held directory descriptor.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::dir::Dir;
use super::{Error, Result};

/// Largest text file read whole, such as a definition or a record: 16 MiB.
pub const TEXT_MAX_BYTES: u64 = 16 << 20;

fn call(name: &str, path: &Path) -> String {
    format!("{name}({:?})", path.display().to_string())
}

/// Reads a regular file of at most `limit` bytes. A FIFO or device is an error, never a wait
/// (threats C4, C11).
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|err| Error::new(call("open", path), err))?;
    let metadata = file
        .metadata()
        .map_err(|err| Error::new(call("fstat", path), err))?;
    if !metadata.is_file() {
        let err = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(Error::new(call("read", path), err));
    }
    let size = metadata.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| Error::new(call("read", path), err))?;
    if bytes.len() as u64 > limit {
        let err = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {limit} bytes"),
        );
        return Err(Error::new(call("read", path), err));
    }
    Ok(bytes)
}

/// Reads a regular file of at most [`TEXT_MAX_BYTES`] as UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    let bytes = read_limited(path, TEXT_MAX_BYTES)?;
    String::from_utf8(bytes).map_err(|err| {
        let err = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not UTF-8 at byte {}", err.utf8_error().valid_up_to()),
        );
        Error::new(call("read", path), err)
    })
}

/// How sure a write must be before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On a file system that is gone after a boot, or for facts that may be lost with the power.
    Memory,
    /// File and directory are flushed, so that a power cut leaves the old file or the new one.
    Disk,
}

/// Replaces `path` by a file of `contents` in one rename, so that nobody ever sees half of it.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let temporary = temporary_name(path);
    let written = write_new(&temporary, contents, mode, durability).and_then(|()| {
        fs::rename(&temporary, path).map_err(|err| Error::new(call("rename", path), err))
    });
    if written.is_err() {
        // The first error is the one to report; a leftover is reclaimed by the next write.
        drop(fs::remove_file(&temporary));
    }
    written?;
    match (durability, path.parent()) {
        (Durability::Disk, Some(parent)) => sync_dir(parent),
        (Durability::Disk, None) | (Durability::Memory, _) => Ok(()),
    }
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".#");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

fn write_new(path: &Path, contents: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
    };
    let opened = match open() {
        // Left by a process of the same number that was killed.
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            remove_file(path)?;
            open()
        }
        other => other,
    };
    let mut file = opened.map_err(|err| Error::new(call("open", path), err))?;
    file.write_all(contents)
        .map_err(|err| Error::new(call("write", path), err))?;
    if durability == Durability::Disk {
        file.sync_all()
            .map_err(|err| Error::new(call("fsync", path), err))?;
    }
    Ok(())
}

/// Flushes a directory, so that renames in it survive a power cut.
pub fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(|err| Error::new(call("open", path), err))?;
    dir.sync_all()
        .map_err(|err| Error::new(call("fsync", path), err))
}

/// Makes `path` and its parents; directories that exist keep their mode.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|err| Error::new(call("mkdir", path), err))
}

/// Makes `path` a symbolic link to `target`, in one rename if it is something else already.
pub fn ensure_symlink(target: &Path, path: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other.map_err(|err| Error::new(call("symlink", path), err)),
    }
    if fs::read_link(path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let temporary = temporary_name(path);
    remove_file(&temporary)?;
    std::os::unix::fs::symlink(target, &temporary)
        .map_err(|err| Error::new(call("symlink", &temporary), err))?;
    fs::rename(&temporary, path).map_err(|err| Error::new(call("rename", path), err))
}

/// Removes a file; absent is success.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(call("unlink", path), err))
        }
        _ => Ok(()),
    }
}

/// Removes a tree without following links; absent is success.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::new(call("rmdir", path), err))
        }
        _ => Ok(()),
    }
}

/// Removes the directory `path` if it is empty, and then those above it below `top`; absent is
/// success.
pub fn remove_empty_dirs(path: &Path, top: &Path) -> Result<()> {
    let below = |path: &&Path| path.starts_with(top) && *path != top;
    for dir in path.ancestors().take_while(below) {
        match fs::remove_dir(dir) {
            Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(Error::new(call("rmdir", dir), err));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The names in a directory, sorted; an absent directory has none.
pub fn list_dir(path: &Path) -> Result<Vec<OsString>> {
    // Not std's, which panics when close(2) fails on a broken disk (threats S2).
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        other => other.map_err(|err| Error::new(call("opendir", path), err))?,
    };
    let mut names = Dir::from(dir).names()?;
    names.sort();
    Ok(names)
}

/// A named FIFO, open at both ends, close-on-exec.
#[derive(Debug)]
pub struct Fifo {
    /// Does not block.
    pub reader: OwnedFd,
    /// Blocks when the FIFO is full.
    pub writer: OwnedFd,
}

/// Makes a FIFO that only its owner can open, and opens both ends.
pub fn make_fifo(path: &Path) -> Result<Fifo> {
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)
        .map_err(|err| Error::new(call("mkfifo", path), err))?;
    // The read end first: a write end cannot be opened without waiting until there is one.
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|err| Error::new(call("open", path), err))?;
    let writer = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|err| Error::new(call("open", path), err))?;
    Ok(Fifo {
        reader: reader.into(),
        writer: writer.into(),
    })
}

/// A pipe, close-on-exec: read end, write end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|err| Error::new("pipe2()", err))
}

/// /dev/null, for reading and writing.
pub fn open_null() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map(OwnedFd::from)
        .map_err(|err| Error::new(call("open", path), err))
}

/// Another descriptor of the same open file, close-on-exec.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned()
        .map_err(|err| Error::new("fcntl(F_DUPFD_CLOEXEC)", err))
}

/// A kernel lock on a file; held until dropped, gone with the process, never stale.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] File);

/// Takes the lock on `path`, which is made if absent and never unlinked. Waits for the holder,
/// after it has told `waiting` who that is.
pub fn lock(path: &Path, waiting: impl FnOnce(&str)) -> Result<Lock> {
    if let Some(lock) = try_lock(path)? {
        return Ok(lock);
    }
    let holder = read_limited(path, HOLDER_MAX_BYTES).unwrap_or_default();
    waiting(String::from_utf8_lossy(&holder).trim_end());
    let file = open_lock(path)?;
    file.lock()
        .map_err(|err| Error::new(call("flock", path), err))?;
    Ok(Lock::taken(file))
}

/// Longest description of a lock's holder.
const HOLDER_MAX_BYTES: u64 = 4096;

impl Lock {
    /// The file says who took it last, which counts only while somebody holds it.
    fn taken(mut file: File) -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = words.collect();
        let mut holder = format!("process {} ({})", std::process::id(), words.join(" "));
        holder.retain(|character| !character.is_control());
        holder.truncate(holder.floor_char_boundary(HOLDER_MAX_BYTES as usize - 1));
        // On a full file system the lock counts all the same.
        if file.set_len(0).is_ok() {
            file.write_all(holder.as_bytes()).ok();
        }
        Self(file)
    }
}

/// Takes the lock on `path` unless somebody holds it.
pub fn try_lock(path: &Path) -> Result<Option<Lock>> {
    let file = open_lock(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock::taken(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(err)) => Err(Error::new(call("flock", path), err)),
    }
}

fn open_lock(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        ensure_dir(parent, 0o700)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|err| Error::new(call("open", path), err))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn write_atomic_replaces_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for text in ["long text", "short"] {
            write_atomic(&path, text.as_bytes(), 0o640, Durability::Disk).unwrap();
            assert_eq!(read_to_string(&path).unwrap(), text);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(list_dir(dir.path()).unwrap(), ["f"]);
    }

    #[test]
    fn reading_refuses_what_is_not_a_small_regular_file() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(read_limited(&fifo, 10).is_err());
        let file = dir.path().join("file");
        write_atomic(&file, &[b'x'; 11], 0o600, Durability::Memory).unwrap();
        assert_eq!(
            read_limited(&file, 10).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert!(
            read_limited(&dir.path().join("none"), 10)
                .unwrap_err()
                .is_absent()
        );
    }

    #[test]
    fn links_are_made_kept_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        for target in ["/a", "/a", "/b"] {
            ensure_symlink(Path::new(target), &path).unwrap();
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(target));
        }
        assert_eq!(list_dir(dir.path()).unwrap(), ["link"]);
    }

    #[test]
    fn a_lock_excludes_and_ends_with_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("locks/web");
        let held = lock(&path, |_| panic!("nobody holds it")).unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| lock(&path, |holder| sender.send(holder.to_owned()).unwrap()));
            let holder = receiver.recv().unwrap();
            assert!(
                holder.starts_with(&format!("process {} (", std::process::id())),
                "{holder}"
            );
            drop(held);
            waiter.join().unwrap().unwrap();
        });
        assert!(try_lock(&path).unwrap().is_some());
    }
}
