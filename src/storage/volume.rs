// SPDX-License-Identifier: Apache-2.0
//! Volumes that wharf keeps: named ones, and anonymous ones that end with their container.
//!
//! A new volume begins with what the image has at its target, owners and modes included. It is
//! filled in a staging directory and appears by one rename, so that a volume that exists is whole,
//! and one that exists is never written to again.

use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{CWD, RenameFlags};
use sha2::{Digest as _, Sha256};

use crate::name::ContainerName;
use crate::paths::Paths;
use crate::storage::overlay::Upper;
use crate::sys;
use crate::sys::command::Command;

/// Longest that filling or re-owning a volume may take.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Names of what is not whole yet: this and the process.
const TEMPORARY: &str = ".new-";

/// What a new volume begins with.
#[derive(Clone, Copy)]
pub struct Content<'a> {
    /// The image's directory at the volume's target, if it has one.
    pub dir: Option<BorrowedFd<'a>>,
    /// Fails if the image has changed since it was mounted, so that the copy may lack some of it.
    pub check: &'a dyn Fn() -> anyhow::Result<()>,
}

impl fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Content");
        shown.field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The data directory of the named volume, made on first use with a copy of `content`.
pub fn ensure_named(paths: &Paths, volume: &str, content: Content<'_>) -> anyhow::Result<PathBuf> {
    let dir = paths.volumes().join(volume);
    ensure(&dir.join("data"), content).with_context(|| format!("making volume '{volume}'"))
}

/// The data directory of a volume without a name, for `target` in the container `name`.
pub fn ensure_anonymous(
    paths: &Paths,
    name: &ContainerName,
    upper: Upper,
    target: &str,
    content: Content<'_>,
) -> anyhow::Result<PathBuf> {
    let keep = match upper {
        Upper::Persistent => "kept",
        Upper::Ephemeral | Upper::Memory => "upper",
    };
    // Targets are paths and may be long; a directory name cannot hold either.
    let mut key: String = Sha256::digest(target.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    key.truncate(16);
    let dir = paths.container_state(name).join(keep).join("volumes");
    ensure(&dir.join(key), content).with_context(|| format!("making a volume for '{target}'"))
}

fn ensure(data: &Path, content: Content<'_>) -> anyhow::Result<PathBuf> {
    let parent = data.parent().context("a volume has a parent directory")?;
    remove_stale(parent)?;
    if data.is_dir() {
        return Ok(data.to_owned());
    }
    sys::fs::ensure_dir(parent, 0o700)?;
    let staging = parent.join(format!("{TEMPORARY}{}", std::process::id()));
    sys::fs::ensure_dir(&staging, 0o755)?;
    let copied = content.dir.map_or(Ok(()), |dir| copy_into(dir, &staging));
    let filled = copied.and_then(|()| (content.check)());
    // A volume that is there after a power cut is never filled again, so it must be whole.
    let flushed = filled.and_then(|()| Ok(sys::mount::sync_file_system(&staging)?));
    let renamed = flushed.and_then(|()| {
        match rustix::fs::renameat_with(CWD, &staging, CWD, data, RenameFlags::NOREPLACE) {
            // Another container made it meanwhile; what that one put there counts.
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(err) => {
                Err(sys::Error::new(format!("renameat2({:?})", data.display()), err).into())
            }
        }
    });
    sys::fs::remove_tree(&staging)?;
    renamed?;
    Ok(data.to_owned())
}

/// Removes what starts left that were killed while they filled a volume here. A start that is
/// filling one now is left alone: its process is there.
fn remove_stale(parent: &Path) -> anyhow::Result<()> {
    for entry in sys::fs::list_dir(parent)? {
        if sys::process::is_left_over(&entry, TEMPORARY) {
            sys::fs::remove_tree(&parent.join(entry))?;
        }
    }
    Ok(())
}

/// Copies a directory's content and its own attributes. Nothing runs in the container yet, so the
/// source does not change; links are copied, never followed.
fn copy_into(content: BorrowedFd<'_>, staging: &Path) -> anyhow::Result<()> {
    let source = format!("/proc/{}/fd/{}/.", std::process::id(), content.as_raw_fd());
    let mut command = Command::new("cp");
    command.args(["--archive", "--reflink=auto", "--no-target-directory", "--"]);
    command.arg(source).arg(staging).deadline(DEADLINE).run()?;
    Ok(())
}

/// Gives a volume's data to the container's user (`U`), links themselves included.
pub fn give_to(data: &Path, uid: u32, gid: u32) -> anyhow::Result<()> {
    let mut command = Command::new("chown");
    command.args(["--recursive", "--no-dereference", "--"]);
    command.arg(format!("{uid}:{gid}")).arg(data);
    command.deadline(DEADLINE).run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn content<'a>(
        dir: &'a std::fs::File,
        check: &'a dyn Fn() -> anyhow::Result<()>,
    ) -> Content<'a> {
        let dir = Some(dir.as_fd());
        Content { dir, check }
    }

    #[test]
    fn a_volume_is_not_kept_whose_image_went_away() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let image = dir.path().join("image");
        sys::fs::ensure_dir(&image, 0o755).unwrap();
        let image = std::fs::File::open(image).unwrap();
        let gone = || anyhow::bail!("it was removed meanwhile");
        for dir in [Some(image.as_fd()), None] {
            let content = Content { dir, check: &gone };
            let err = ensure_named(&paths, "db", content).unwrap_err();
            assert!(format!("{err:#}").ends_with("meanwhile"), "{err:#}");
            let left = sys::fs::list_dir(&paths.volumes().join("db")).unwrap();
            assert!(left.is_empty(), "{left:?}");
        }
    }

    #[test]
    fn a_new_volume_holds_a_copy_and_an_old_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let image = dir.path().join("image");
        sys::fs::ensure_dir(&image, 0o750).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", image.join("link")).unwrap();
        let write = |path: &Path, text: &[u8]| {
            sys::fs::write_atomic(path, text, 0o640, sys::fs::Durability::Memory).unwrap();
        };
        write(&image.join("file"), b"from the image");
        let opened = std::fs::File::open(&image).unwrap();
        // Of a start that was killed; no process has this number.
        sys::fs::ensure_dir(&paths.volumes().join("db/.new-2147483647/half"), 0o700).unwrap();
        let whole = || Ok(());
        let data = ensure_named(&paths, "db", content(&opened, &whole)).unwrap();
        assert_eq!(
            std::fs::read_link(data.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(
            std::fs::metadata(&data).unwrap().permissions().mode() & 0o777,
            0o750
        );
        write(&data.join("file"), b"changed");
        assert_eq!(
            ensure_named(&paths, "db", content(&opened, &whole)).unwrap(),
            data
        );
        assert_eq!(
            sys::fs::read_to_string(&data.join("file")).unwrap(),
            "changed"
        );
        assert_eq!(
            sys::fs::list_dir(&paths.volumes().join("db")).unwrap(),
            ["data"]
        );
    }
}
