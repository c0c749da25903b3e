// SPDX-License-Identifier: Apache-2.0
//! Which directories a path of the container leads through, its links followed by hand.
//!
//! Before the container runs, what its mounts will hold is not there: the kernel resolves a link
//! into /proc or into a volume to nothing. To know that it leads there, the links have to be read
//! one by one. Only for decisions about words; files are opened through `sys::root`.

use std::path::{Component, Path, PathBuf};

use crate::sys::root::Root;

/// Symbolic links followed in one path; the kernel's number.
const LINKS_MAX: usize = 40;

/// Whether `path`, resolved in `root`, leads to or through one of `dirs`.
pub(super) fn lead_through(root: &Root, path: &Path, dirs: &[PathBuf]) -> bool {
    let mut rest = reversed(path);
    let mut resolved = PathBuf::from("/");
    let mut links: usize = 0;
    while let Some(part) = rest.pop() {
        if part == Path::new("..") {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&part);
        if dirs.contains(&next) {
            return true;
        }
        match root.read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links = links.saturating_add(1);
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                rest.extend(reversed(&target));
            }
            Ok(_) | Err(_) => resolved = next,
        }
    }
    false
}

/// The normal components, last first, `..` kept.
fn reversed(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().rev();
    let parts = parts.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn follows_links_as_the_container_would() {
        let dir = tempfile::tempdir().unwrap();
        crate::sys::fs::ensure_dir(&dir.path().join("a/b"), 0o755).unwrap();
        for (target, link) in [
            ("/proc/self/fd/7", "fd"),
            ("../../fd/x", "a/b/up"),
            ("../../../../../../proc", "a/high"),
            ("loop", "loop"),
            ("/procession", "near"),
            ("a/b", "plain"),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        let root = Root::open(dir.path()).unwrap();
        let proc = [PathBuf::from("/proc")];
        for (path, expected) in [
            ("/proc", true),
            ("/proc/1/root", true),
            ("/fd", true),
            ("/fd/../../etc", true),
            ("/a/b/up", true),
            ("/plain/up", true),
            ("/a/high/self", true),
            ("/a/../proc", true),
            ("/near", false),
            ("/loop", false),
            ("/plain", false),
            ("/none/x", false),
            ("/", false),
        ] {
            assert_eq!(
                lead_through(&root, Path::new(path), &proc),
                expected,
                "{path}"
            );
        }
    }
}
