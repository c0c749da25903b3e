// SPDX-License-Identifier: Apache-2.0
//! Paths below a held directory descriptor, for trees that an image or a container wrote to.
//!
//! Every lookup is one openat2(2): symbolic links, absolute ones and `..` included, are resolved
//! inside the directory, and the magic links of /proc never. No path string leaves this module to
//! be looked up again, so a link that is swapped meanwhile leads nowhere (threats T3, X5).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Error, Result};

/// How often openat2(2) is tried again when it says that a rename raced with a `..`.
const RACE_RETRIES: u32 = 128;

/// What symbolic links below a [`Root`] lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// They are followed, with the directory as their `/`, as chroot(2) would. For rootfs trees.
    InRoot,
    /// They are an error, like any way out of the directory. For archives and blobs.
    Refused,
}

/// An open directory in which paths are resolved.
///
/// Paths may begin with `/`, which means the directory itself.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    links: Links,
}

impl Root {
    /// Opens the directory `path`, whose own path is trusted; links below it stay in it.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, Links::InRoot)
    }

    /// Opens the directory `path`, whose own path is trusted.
    pub fn open_with(path: &Path, links: Links) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|err| Error::new(format!("open({path:?}, O_DIRECTORY)"), err))?;
        Ok(Self::from_fd(fd, path, links))
    }

    /// Takes an open directory; `path` is only for messages.
    pub fn from_fd(fd: OwnedFd, path: &Path, links: Links) -> Self {
        Self {
            fd,
            path: path.to_owned(),
            links,
        }
    }

    /// Where the directory was when it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file for reading. A FIFO, a device or a directory is an error, never a
    /// wait and never an open(2) with side effects (threats C4).
    pub fn open_file(&self, path: &Path) -> Result<File> {
        self.require_regular(path, &self.stat(path)?)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.resolve(path, flags)?);
        let metadata = file
            .metadata()
            .map_err(|err| self.error("fstat", path, err))?;
        self.require_regular(path, &metadata)?;
        Ok(file)
    }

    fn require_regular(&self, path: &Path, metadata: &Metadata) -> Result<()> {
        if metadata.is_file() {
            return Ok(());
        }
        let err = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        Err(self.error("open", path, err))
    }

    /// Reads a regular file of at most `limit` bytes; a larger one is an error of kind
    /// `FileTooLarge`.
    pub fn read_limited(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(path)?
            .take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|err| self.error("read", path, err))?;
        if bytes.len() as u64 > limit {
            let text = format!("larger than {limit} bytes");
            let err = io::Error::new(io::ErrorKind::FileTooLarge, text);
            return Err(self.error("read", path, err));
        }
        Ok(bytes)
    }

    /// Opens a directory (`O_PATH`), to be the base of `*at` calls or of a mount.
    pub fn open_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens a directory for reading its entries and setting its attributes.
    pub fn open_readable_dir(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens whatever is there (`O_PATH`), a final symbolic link resolved.
    pub fn open_path(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path, OFlags::PATH)
    }

    /// Type, mode, owner and size of what is there, a final symbolic link resolved.
    pub fn stat(&self, path: &Path) -> Result<Metadata> {
        File::from(self.open_path(path)?)
            .metadata()
            .map_err(|err| self.error("fstat", path, err))
    }

    /// The target of the symbolic link that `path` is, unresolved.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let (parent, name) = self.split(path)?;
        let dir = self.open_dir(parent)?;
        let target = rustix::fs::readlinkat(&dir, name, Vec::new())
            .map_err(|err| self.error("readlink", path, err))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Makes the directory and its parents with `mode` where they are absent, links that lead to
    /// directories in the root followed; returns it (`O_PATH`).
    ///
    /// A dangling link, a file in the way, or `..` in `path` is an error: nothing is made where a
    /// link of an image points to.
    pub fn ensure_dir(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        match self.open_dir(path) {
            Err(err) if err.is_absent() => {}
            opened => return opened,
        }
        if path.components().any(|c| c == Component::ParentDir) {
            let err = io::Error::new(io::ErrorKind::InvalidInput, "'..' in the path");
            return Err(self.error("mkdir", path, err));
        }
        let mut done = PathBuf::new();
        let mut dir = self.open_dir(&done)?;
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name,
                Component::RootDir
                | Component::CurDir
                | Component::ParentDir
                | Component::Prefix(_) => continue,
            };
            done.push(name);
            dir = match self.open_dir(&done) {
                Err(err) if err.is_absent() => {
                    self.make_dir_at(dir.as_fd(), name, mode, &done)?;
                    self.open_dir(&done)?
                }
                opened => opened?,
            };
        }
        Ok(dir)
    }

    fn make_dir_at(&self, dir: BorrowedFd<'_>, name: &OsStr, mode: u32, path: &Path) -> Result<()> {
        match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {}
            // Another start of the same rootfs was faster, or a dangling link: opening it tells.
            Err(Errno::EXIST) => return Ok(()),
            Err(err) => return Err(self.error("mkdir", path, err)),
        }
        // The mode of mkdir(2) is masked by the umask. Nothing else has been put here yet, and if
        // something was swapped in, O_NOFOLLOW and O_DIRECTORY keep us from changing a target.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(dir, name, flags, Mode::empty())
            .and_then(|made| rustix::fs::fchmod(made, Mode::from_raw_mode(mode)))
            .map_err(|err| self.error("chmod", path, err))
    }

    /// Makes an empty file, mode 0644, with its parents, where nothing is: a place to bind-mount a
    /// file on. A directory there is an error.
    pub fn ensure_file(&self, path: &Path) -> Result<()> {
        match self.stat(path) {
            Ok(found) if found.is_dir() => {
                let err = io::Error::new(io::ErrorKind::IsADirectory, "is a directory");
                return Err(self.error("open", path, err));
            }
            Ok(_) => return Ok(()),
            Err(err) if err.is_absent() => {}
            Err(err) => return Err(err),
        }
        let (parent, name) = self.split(path)?;
        let dir = self.ensure_dir(parent, 0o755)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        match rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => Ok(()),
            Err(err) => Err(self.error("create", path, err)),
        }
    }

    fn split<'a>(&self, path: &'a Path) -> Result<(&'a Path, &'a OsStr)> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((parent, name)),
            (None, _) | (_, None) => {
                let err = io::Error::new(io::ErrorKind::InvalidInput, "no file name");
                Err(self.error("open", path, err))
            }
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let resolve = match self.links {
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Refused => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let flags = flags | OFlags::CLOEXEC;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve) {
                // A rename somewhere raced with a `..`: the kernel could not prove that it stays
                // inside and asks to be called again (openat2(2), EAGAIN).
                Err(Errno::AGAIN) if tries < RACE_RETRIES => tries += 1,
                Err(Errno::INTR) => {}
                other => return other.map_err(|err| self.error("openat2", path, err)),
            }
        }
    }

    fn error(&self, call: &str, path: &Path, err: impl Into<io::Error>) -> Error {
        let root = self.path.display().to_string();
        Error::new(format!("{call}({:?} in {root:?})", path.as_os_str()), err)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    struct Tree {
        dir: tempfile::TempDir,
        root: Root,
    }

    /// `outside/secret` beside `root/`, and links in `root/` that try to reach it.
    fn tree() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        for made in ["outside", "root", "root/etc"] {
            std::fs::create_dir(top.join(made)).unwrap();
        }
        super::super::fs::write_atomic(
            &top.join("outside/secret"),
            b"secret",
            0o600,
            super::super::fs::Durability::Memory,
        )
        .unwrap();
        let root = top.join("root");
        symlink(top.join("outside"), root.join("absolute")).unwrap();
        symlink("../outside", root.join("relative")).unwrap();
        symlink("/etc", root.join("inside")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        let root = Root::open(&root).unwrap();
        Tree { dir, root }
    }

    #[test]
    fn links_stay_in_the_root() {
        let t = tree();
        for path in [
            "absolute/secret",
            "relative/secret",
            "../outside/secret",
            "/../outside/secret",
            "etc/../../outside/secret",
            "magic/etc/passwd",
        ] {
            let err = t.root.open_file(Path::new(path)).unwrap_err();
            assert!(err.is_absent(), "{path}: {err}");
        }
        assert!(t.root.stat(Path::new("/inside")).unwrap().is_dir());
        assert_eq!(
            t.root.read_link(Path::new("inside")).unwrap(),
            Path::new("/etc")
        );
    }

    #[test]
    fn making_follows_only_what_leads_to_a_directory_inside() {
        let t = tree();
        t.root.ensure_dir(Path::new("/inside/a/b"), 0o1777).unwrap();
        let made = t.dir.path().join("root/etc/a/b");
        let mode = std::fs::metadata(made).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        t.root.ensure_file(Path::new("inside/c/hosts")).unwrap();
        t.root.ensure_file(Path::new("inside/c/hosts")).unwrap();
        assert!(t.root.ensure_file(Path::new("inside/c")).is_err());
        for path in ["absolute/x", "relative/x", "new/../x", "etc/c/hosts/x"] {
            assert!(t.root.ensure_dir(Path::new(path), 0o755).is_err(), "{path}");
        }
        for path in ["absolute/x", "relative/x", "new/../x/y", "etc/c/hosts/x"] {
            assert!(t.root.ensure_file(Path::new(path)).is_err(), "{path}");
        }
        assert!(!t.dir.path().join("root/new").exists());
        let outside = std::fs::read_dir(t.dir.path().join("outside")).unwrap();
        assert_eq!(outside.count(), 1);
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let t = tree();
        let fifo = t.dir.path().join("root/fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        symlink("/dev/zero", t.dir.path().join("root/zero")).unwrap();
        for path in ["fifo", "zero", "etc"] {
            assert!(t.root.read_limited(Path::new(path), 9).is_err(), "{path}");
        }
        std::fs::copy("/proc/self/comm", t.dir.path().join("root/comm")).unwrap();
        assert!(t.root.read_limited(Path::new("comm"), 100).is_ok());
        let err = t.root.read_limited(Path::new("comm"), 1).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn refusing_links_refuses_every_way_out() {
        let t = tree();
        let strict = Root::open_with(t.root.path(), Links::Refused).unwrap();
        for path in [
            "inside",
            "absolute/secret",
            "../outside/secret",
            "inside/..",
        ] {
            assert!(strict.stat(Path::new(path)).is_err(), "{path}");
        }
        assert!(strict.stat(Path::new("/etc")).unwrap().is_dir());
    }
}
