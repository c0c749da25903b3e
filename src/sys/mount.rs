// SPDX-License-Identifier: Apache-2.0
//! Mounts and mount namespaces.

pub mod detached;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::{Error, Result};

/// Most layers an overlay is mounted from. mount(2) copies one page of options, and a layer takes
/// at most 19 bytes of it as `/proc/self/fd/NNN:`.
pub const OVERLAY_LAYERS_MAX: usize = 200;

/// What of the host's mounts the private namespace stays connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Mounts of the host appear in the namespace, never the other way (`rslave`).
    Slave,
    /// As before the call, but for the mount that holds this process's work: what the container
    /// mounts in a `shared` volume must appear on the host.
    Shared,
}

/// Gives this process a mount namespace of its own in which mounts below `work` stay private.
pub fn unshare_mounts(work: &Path, isolation: Isolation) -> Result<()> {
    unshare(UnshareFlags::NEWNS, "CLONE_NEWNS")?;
    let (target, flags) = match isolation {
        Isolation::Slave => (
            PathBuf::from("/"),
            MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
        ),
        Isolation::Shared => (mount_point(work)?, MountPropagationFlags::PRIVATE),
    };
    rustix::mount::mount_change(&target, flags)
        .map_err(|err| Error::new(format!("mount({:?}, {flags:?})", target.display()), err))
}

/// Makes the group this process is in the root of a cgroup namespace of its own.
pub fn unshare_cgroup() -> Result<()> {
    unshare(UnshareFlags::NEWCGROUP, "CLONE_NEWCGROUP")
}

fn unshare(flags: UnshareFlags, name: &str) -> Result<()> {
    // SAFETY: of the flags only CLONE_FILES and CLONE_FS could surprise other threads; neither is
    // passed here, and CLONE_NEWNS unshares the file system attributes of this thread alone.
    #[expect(unsafe_code, reason = "rustix marks unshare unsafe for CLONE_FILES")]
    let result = unsafe { rustix::thread::unshare_unsafe(flags) };
    result.map_err(|err| Error::new(format!("unshare({name})"), err))
}

/// The mount point that `path` lies below: the deepest parent whose device differs.
fn mount_point(path: &Path) -> Result<PathBuf> {
    let device = |path: &Path| {
        std::fs::metadata(path)
            .map(|metadata| metadata.dev())
            .map_err(|err| Error::new(format!("stat({:?})", path.display()), err))
    };
    let wanted = device(path)?;
    let mut point = path.to_owned();
    while let Some(parent) = point.parent() {
        if device(parent)? != wanted {
            break;
        }
        point = parent.to_owned();
    }
    Ok(point)
}

/// What is on top of an overlay's layers.
#[derive(Debug, Clone, Copy)]
pub enum Upper<'a> {
    /// What is written goes to `diff`; `work` is overlayfs's own.
    Writable {
        /// The upper directory.
        diff: &'a Path,
        /// A directory on the same file system.
        work: &'a Path,
    },
    /// An upper directory is one more layer: nothing can be written.
    Layer(&'a Path),
    /// Nothing, and nothing can be written; there must be two layers at least.
    Nothing,
}

/// Mounts an overlay of `layers`, lowest first, on `target`, with `upper` and `work` on top.
pub fn overlay(layers: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let diff = upper;
    overlay_with(layers, &Upper::Writable { diff, work }, target)
}

/// Mounts an overlay of `layers`, lowest first and at least two, on `target`, read-only.
pub fn overlay_read_only(layers: &[PathBuf], target: &Path) -> Result<()> {
    overlay_with(layers, &Upper::Nothing, target)
}

fn overlay_with(layers: &[PathBuf], upper: &Upper<'_>, target: &Path) -> Result<()> {
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map_err(|err| Error::new(format!("open({:?})", path.display()), err))
    };
    let top = match upper {
        Upper::Layer(diff) => Some(*diff),
        Upper::Writable { .. } | Upper::Nothing => None,
    };
    let opened = layers
        .iter()
        .map(PathBuf::as_path)
        .chain(top)
        .map(open)
        .collect::<Result<Vec<_>>>()?;
    // Paths are long and one page of options is all there is, so all go by descriptor.
    let by_descriptor = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let lower: Vec<String> = opened.iter().rev().map(by_descriptor).collect();
    let mut options = format!("lowerdir={}", lower.join(":"));
    let written = match upper {
        Upper::Writable { diff, work } => Some((open(diff)?, open(work)?)),
        Upper::Layer(_) | Upper::Nothing => None,
    };
    let flags = match &written {
        Some((diff, work)) => {
            let (diff, work) = (by_descriptor(diff), by_descriptor(work));
            options.push_str(&format!(",upperdir={diff},workdir={work}"));
            MountFlags::NODEV
        }
        None => MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID,
    };
    // What an image says about redirects must not reach out of its layers (threats T9).
    options.push_str(",redirect_dir=nofollow,metacopy=off,index=off");
    let call = format!(
        "mount(\"overlay\", {:?}, {} layers)",
        target.display(),
        layers.len()
    );
    let options = CString::new(options).map_err(|err| Error::new(&call, err))?;
    rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
        .map_err(|err| Error::new(call, err))
}

/// Binds `source` and what is mounted below it on `target`.
///
/// The copies are private: detaching them would otherwise unmount on the host what is mounted below
/// the source, where this namespace still shares the host's mounts.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_bind_recursive(source, target)
        .and_then(|()| rustix::mount::mount_change(target, private))
        .map_err(|err| {
            let call = format!(
                "mount({:?}, {:?}, MS_BIND|MS_REC)",
                source.display(),
                target.display()
            );
            Error::new(call, err)
        })
}

/// Detaches what is mounted on `target`, with everything below; nothing mounted is success.
pub fn detach(target: &Path) -> Result<()> {
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(err) => Err(Error::new(format!("umount2({:?})", target.display()), err)),
    }
}

/// Unmounts what is mounted on `target`; an error while somebody works in it.
pub fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW)
        .map_err(|err| Error::new(format!("umount2({:?})", target.display()), err))
}

/// Flushes the file system that holds `path` (syncfs(2)).
pub fn sync_file_system(path: &Path) -> Result<()> {
    let call = || format!("syncfs({:?})", path.display());
    let dir = File::open(path).map_err(|err| Error::new(call(), err))?;
    rustix::fs::syncfs(dir.as_fd()).map_err(|err| Error::new(call(), err))
}
