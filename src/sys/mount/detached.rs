// SPDX-License-Identifier: Apache-2.0
//! Mounts that are attached nowhere: a container's root seen from outside.
//!
//! A mount namespace belongs to a thread here, which ends when it has what it came for; the rest of
//! the process stays where it is, and what was mounted on the way is gone with the thread. What
//! stays is a descriptor.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::{Upper, overlay_with, unshare};
use crate::sys::process::Process;
use crate::sys::{Error, Result};

/// struct mount_attr of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// From linux/mount.h.
const MS_PRIVATE: u64 = 1 << 18;
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;

/// A mount in no namespace; gone when dropped.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Attaches it to the directory `target`, for reading only, without devices and setuid
    /// programs.
    pub fn attach_for_reading(self, target: &Path) -> Result<()> {
        // Before anybody can see it.
        self.restrict()?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&self.0, "", CWD, target, flags).map_err(|err| {
            let target = target.display().to_string();
            Error::new(format!("move_mount({target:?})"), err)
        })
    }

    fn restrict(&self) -> Result<()> {
        let attributes = MountAttributes {
            set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
            clear: 0,
            // A clone is its source's peer: unmounting the view would unmount there too.
            propagation: MS_PRIVATE,
            user_namespace: 0,
        };
        // SAFETY: the path is a NUL-terminated string and `attributes` has the layout and the size
        // of struct mount_attr; the kernel only reads both, during the call.
        #[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size_of::<MountAttributes>(),
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(Error::new(
                "mount_setattr(MOUNT_ATTR_RDONLY)",
                std::io::Error::last_os_error(),
            )),
        }
    }

    /// The root of the mount.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The root directory of a process's mount namespace, with everything mounted below it.
///
/// Not /proc/PID/root, which follows the process's own chroot(2): what a container's init is
/// allowed to call must not decide what we take for the container's root. Only who may mount in the
/// namespace can change this one.
pub fn root_of(process: &Process) -> Result<OwnedFd> {
    in_namespace_of(process, || {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/", flags, Mode::empty()).map_err(|err| Error::new("open(\"/\")", err))
    })
}

/// The root file system of a process's mount namespace, without anything that is mounted below it:
/// where something is, there is the mount point.
pub fn root_file_system_of(process: &Process) -> Result<Detached> {
    in_namespace_of(process, || clone_of(Path::new("/")))
}

/// An overlay of `layers`, lowest first. `scratch` is any directory; nothing is left there.
pub fn overlay(layers: &[PathBuf], upper: &Upper<'_>, scratch: &Path) -> Result<Detached> {
    apart(|| {
        unshare(UnshareFlags::NEWNS, "CLONE_NEWNS")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private)
            .map_err(|err| Error::new("mount(\"/\", MS_PRIVATE|MS_REC)", err))?;
        overlay_with(layers, upper, scratch)?;
        clone_of(scratch)
    })
}

/// The file system at the directory `path` of ours, without anything that is mounted below it.
pub fn clone_of(path: &Path) -> Result<Detached> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
        .map(Detached)
        .map_err(|err| {
            let path = path.display().to_string();
            Error::new(format!("open_tree({path:?}, OPEN_TREE_CLONE)"), err)
        })
}

fn in_namespace_of<T: Send>(
    process: &Process,
    act: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    apart(|| {
        // A thread that shares its root and working directory with others cannot change them all.
        unshare(UnshareFlags::FS, "CLONE_FS")?;
        move_into_thread_name_spaces(process.as_fd(), ThreadNameSpaceType::MOUNT)
            .map_err(|err| Error::new(format!("setns({}, CLONE_NEWNS)", process.pid()), err))?;
        act()
    })
}

/// Runs `act` in a thread of its own.
fn apart<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, act)
            .map_err(|err| Error::new("clone()", err))?;
        thread.join().unwrap_or_else(|_| {
            let err = std::io::Error::other("the thread panicked");
            Err(Error::new("clone()", err))
        })
    })
}

/// Whether something is mounted on the directory `path` itself.
pub fn is_mount_point(path: &Path) -> Result<bool> {
    use rustix::fs::{StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(err) => {
            let path = path.display().to_string();
            Err(Error::new(format!("statx({path:?})"), err))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is mounted and unmounted in the source is no affair of the view's, nor the reverse.
    #[test]
    fn a_view_is_no_peer_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (source, view) = (dir.path().join("source"), dir.path().join("view"));
        for dir in [&source, &view] {
            std::fs::create_dir(dir).unwrap();
        }
        let tmpfs = |target: &Path| {
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("tmpfs", target, "tmpfs", flags, None).unwrap();
        };
        apart(|| {
            unshare(UnshareFlags::NEWNS, "CLONE_NEWNS")?;
            let set = |path: &Path, flags| rustix::mount::mount_change(path, flags).unwrap();
            set(
                Path::new("/"),
                MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
            );
            tmpfs(&source);
            std::fs::create_dir(source.join("sub")).unwrap();
            set(&source, MountPropagationFlags::SHARED);
            clone_of(&source)?.attach_for_reading(&view)?;
            assert!(is_mount_point(&view)?);
            tmpfs(&source.join("sub"));
            assert!(is_mount_point(&source.join("sub"))?);
            assert!(!is_mount_point(&view.join("sub"))?);
            super::super::unmount(&view)?;
            assert!(is_mount_point(&source.join("sub"))?);
            assert!(!is_mount_point(&view)?);
            Ok(())
        })
        .unwrap();
    }
}
