// SPDX-License-Identifier: Apache-2.0
//! Which definitions there are, by file name alone, and when they last changed.
//!
//! Listing 1000 containers must not parse 1000 files; and whether systemd has to be reloaded is a
//! question of times, which parsing cannot answer.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::engine::status::Past;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::sys;

/// Whether a container is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// By this file (the one of highest priority; drop-ins may add to it).
    File(PathBuf),
    /// Masked by this link to /dev/null.
    Masked(PathBuf),
    /// Nowhere.
    Absent,
}

impl Found {
    /// The past of a container that has no runs.
    pub fn past(&self) -> Past {
        match self {
            Self::File(_) => Past::Defined,
            Self::Masked(_) | Self::Absent => Past::Unheard,
        }
    }
}

/// The file that defines `name`: its own, or its template's if it is an instance.
pub fn find(paths: &Paths, name: &ContainerName) -> Found {
    let own = format!("{name}.toml");
    let template = name.instance().map(|_| format!("{}@.toml", name.base()));
    for file in std::iter::once(own).chain(template) {
        for dir in paths.definition_dirs().iter().rev() {
            let path = dir.join("containers").join(&file);
            match kind_of(&path) {
                Some(Kind::File) => return Found::File(path),
                Some(Kind::Mask) => return Found::Masked(path),
                None => {}
            }
        }
    }
    Found::Absent
}

/// Every container that has a definition of its own, sorted; instances that only their template
/// defines are known to systemd alone.
pub fn names(paths: &Paths) -> anyhow::Result<Vec<ContainerName>> {
    let mut found: BTreeMap<ContainerName, Kind> = BTreeMap::new();
    for dir in paths.definition_dirs() {
        let dir = dir.join("containers");
        for entry in sys::fs::list_dir(&dir)? {
            let Some((name, shape)) = entry.to_str().and_then(container_of) else {
                continue;
            };
            match shape {
                Shape::DropIns if name.instance().is_some() => {
                    found.entry(name).or_insert(Kind::File);
                }
                Shape::DropIns => {}
                Shape::File => {
                    if let Some(kind) = kind_of(&dir.join(&entry)) {
                        found.insert(name, kind);
                    }
                }
            }
        }
    }
    let kept = found.into_iter().filter(|(_, kind)| *kind == Kind::File);
    Ok(kept.map(|(name, _)| name).collect())
}

/// When anything that `name` is made from last changed, in microseconds of the real-time clock.
///
/// Directories count too: their times tell of files that were removed.
pub fn changed_at_micros(paths: &Paths, name: &ContainerName) -> anyhow::Result<u64> {
    let base = name.base();
    let stems = match name.instance() {
        Some(_) => vec![name.as_str().to_owned(), format!("{base}@")],
        None => vec![base.to_owned()],
    };
    let mut latest = 0;
    let mut look = |path: &Path| {
        for metadata in [path.symlink_metadata(), path.metadata()] {
            latest = latest.max(metadata.map_or(0, |m| changed(&m)));
        }
    };
    for dir in paths.definition_dirs() {
        let dir = dir.join("containers");
        // In /run the directory is also where containers run: each start and exit changes it.
        if !dir.starts_with(paths.runtime()) {
            look(&dir);
        }
        let mut drop_ins = vec![dir.join("container.toml.d")];
        for stem in &stems {
            look(&dir.join(format!("{stem}.toml")));
            drop_ins.push(dir.join(format!("{stem}.toml.d")));
        }
        for drop_in_dir in drop_ins {
            look(&drop_in_dir);
            for file in sys::fs::list_dir(&drop_in_dir)? {
                look(&drop_in_dir.join(file));
            }
        }
    }
    Ok(latest)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Mask,
}

fn kind_of(path: &Path) -> Option<Kind> {
    let target = path.metadata();
    match target {
        // A mask is a link to /dev/null, or, as in unit directories, an empty file.
        Ok(target) if !target.is_file() && !target.is_dir() => Some(Kind::Mask),
        // A link that leads nowhere is a definition that cannot be read, not an absent one.
        Ok(_) => Some(Kind::File),
        Err(_) => path.symlink_metadata().ok().map(|_| Kind::File),
    }
}

enum Shape {
    File,
    DropIns,
}

fn container_of(file: &str) -> Option<(ContainerName, Shape)> {
    let (stem, shape) = match file.strip_suffix(".toml.d") {
        Some(stem) => (stem, Shape::DropIns),
        None => (file.strip_suffix(".toml")?, Shape::File),
    };
    stem.parse().ok().map(|name| (name, shape))
}

fn changed(metadata: &Metadata) -> u64 {
    // A file that is moved here keeps its mtime; its ctime is when that was.
    let micros = |secs: i64, nanos: i64| u64::try_from(secs * 1_000_000 + nanos / 1000);
    let modified = micros(metadata.mtime(), metadata.mtime_nsec()).unwrap_or(0);
    let changed = micros(metadata.ctime(), metadata.ctime_nsec()).unwrap_or(0);
    modified.max(changed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            sys::fs::write_atomic(&path, b"", 0o644, sys::fs::Durability::Memory).unwrap();
        }
        let paths = Paths::system(dir.path());
        (dir, paths)
    }

    #[test]
    fn names_and_masks() {
        let (dir, paths) = tree(&[
            "etc/wharf/containers/web.toml",
            "etc/wharf/containers/job@.toml",
            "etc/wharf/containers/job@a.toml.d/10.toml",
            "etc/wharf/containers/web.toml.d/10.toml",
            "etc/wharf/containers/.hidden.toml",
            "etc/wharf/containers/README",
            "usr/lib/wharf/containers/db.toml",
            "usr/lib/wharf/containers/cache.toml",
        ]);
        let mask = dir.path().join("etc/wharf/containers/cache.toml");
        symlink("/dev/null", &mask).unwrap();
        let names: Vec<String> = names(&paths)
            .unwrap()
            .into_iter()
            .map(String::from)
            .collect();
        assert_eq!(names, ["db", "job@a", "web"]);
        let find = |name: &str| find(&paths, &name.parse().unwrap());
        assert_eq!(find("cache"), Found::Masked(mask));
        assert_eq!(find("nobody"), Found::Absent);
        let template = dir.path().join("etc/wharf/containers/job@.toml");
        assert_eq!(find("job@b"), Found::File(template));
    }

    #[test]
    fn a_new_drop_in_is_a_change() {
        let (dir, paths) = tree(&["etc/wharf/containers/web.toml"]);
        let name = "web".parse().unwrap();
        let before = changed_at_micros(&paths, &name).unwrap();
        let drop_in = dir
            .path()
            .join("run/wharf/containers/container.toml.d/x.toml");
        sys::fs::ensure_dir(drop_in.parent().unwrap(), 0o755).unwrap();
        sys::fs::write_atomic(&drop_in, b"", 0o644, sys::fs::Durability::Memory).unwrap();
        assert!(changed_at_micros(&paths, &name).unwrap() >= before);
        assert!(changed_at_micros(&paths, &"other".parse().unwrap()).unwrap() > 0);
    }
}
