// SPDX-License-Identifier: Apache-2.0
//! Which definitions there are, what a list shows of them, and when they last changed.
//!
//! Whether systemd has to be reloaded is a question of times, so that no start has to compare what
//! the generator would write with what it wrote.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::definition::kind::Kind as _;
use crate::definition::load::load_catalogue;
use crate::definition::load::scan::{Catalogue, File};
use crate::definition::{Definition, Root};
use crate::engine::container::Container;
use crate::engine::view::status::Past;
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
pub fn find(container: Container<'_>) -> Found {
    let name = container.name();
    match Catalogue::of_one::<Definition>(container.paths(), name).base(name) {
        Some(File::Regular(path)) => Found::File(path.clone()),
        Some(File::Mask(path)) => Found::Masked(path.clone()),
        None => Found::Absent,
    }
}

/// What a list shows of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gist {
    /// It is valid: the image's reference, or the root directory.
    Image(String),
    /// It is not: one line on why.
    Broken(String),
}

/// Every definition, sorted by name.
pub fn gists(paths: &Paths) -> Vec<(ContainerName, Gist)> {
    let loaded = load_catalogue::<Definition>(&Catalogue::scan::<Definition>(paths)).into_iter();
    let gists = loaded.map(|(name, result)| {
        let gist = match result {
            Ok(definition) => Gist::Image(match definition.root {
                Root::Image(reference) => reference,
                Root::Rootfs(path) => path.display().to_string(),
            }),
            Err(err) => Gist::Broken(err.to_string()),
        };
        (name, gist)
    });
    gists.collect()
}

/// When anything that `name` is made from last changed, in microseconds of the real-time clock.
///
/// Directories count too: their times tell of files that were removed.
pub fn changed_at_micros(container: Container<'_>) -> anyhow::Result<u64> {
    let (paths, name) = (container.paths(), container.name());
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
        look(&dir);
        let mut drop_ins = vec![dir.join(format!("{}.toml.d", Definition::INFO.word))];
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

    fn write(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
        sys::fs::write_atomic(&path, text.as_bytes(), 0o644, sys::fs::Durability::Memory).unwrap();
    }

    #[test]
    fn gists_and_masks() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "etc/wharf/containers/web.toml",
            "image = \"x:1\"\n",
        );
        write(dir.path(), "etc/wharf/containers/bad.toml", "imge = 1\n");
        write(
            dir.path(),
            "usr/lib/wharf/containers/cache.toml",
            "image = \"c\"\n",
        );
        let mask = dir.path().join("etc/wharf/containers/cache.toml");
        symlink("/dev/null", &mask).unwrap();
        let paths = Paths::system(dir.path());
        let gists = gists(&paths);
        let [(bad, Gist::Broken(problem)), (web, Gist::Image(image))] = gists.as_slice() else {
            panic!("{gists:?}");
        };
        assert_eq!(
            (bad.as_str(), web.as_str(), image.as_str()),
            ("bad", "web", "x:1")
        );
        assert!(
            problem.contains("bad.toml:1:1: unknown key 'imge'"),
            "{problem}"
        );
        let find = |name: &str| find(Container::new(&paths, &name.parse().unwrap()));
        assert_eq!(find("cache"), Found::Masked(mask));
        assert_eq!(find("nobody"), Found::Absent);
    }

    #[test]
    fn every_drop_in_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let name = "web".parse().unwrap();
        assert_eq!(changed_at_micros(Container::new(&paths, &name)).unwrap(), 0);
        for file in ["container.toml.d/x.toml", "web.toml.d/x.toml", "web.toml"] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), &format!("run/wharf/containers/{file}"), "");
            let paths = Paths::system(dir.path());
            assert!(
                changed_at_micros(Container::new(&paths, &name)).unwrap() > 0,
                "{file}"
            );
        }
    }
}
