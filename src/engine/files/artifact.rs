// SPDX-License-Identifier: Apache-2.0
//! Artifacts: small named files kept with a container, `/var/lib/wharf/containers/NAME/artifacts`.
//!
//! They are the administrator's, not the container's: nothing in it sees them unless a volume shows
//! them, they survive its runs, its updates and reboots, and `wharf rm` takes them along. A file gets
//! its name when it is whole and on the disk, so no lock is needed; all of it goes by one held
//! directory that only its owner can enter.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use crate::engine::container::Container;
use crate::engine::refusal::Undefined;
use crate::engine::view::definitions;
use crate::name::ArtifactName;
use crate::sys;
use crate::sys::dir::{Dir, Kind, Time};

/// Largest artifact: 64 MiB. What is larger belongs into a volume.
pub const BYTES_MAX: u64 = 64 << 20;

/// Names of what is not whole yet: this and the process. No artifact begins with a dot.
const TEMPORARY: &str = ".new-";

/// What is told of an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its name.
    pub name: ArtifactName,
    /// Bytes of its content.
    pub bytes: u64,
    /// When it was added.
    pub added: Time,
}

/// What becomes of an artifact that has the name already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Keep,
    /// It is replaced in one step.
    Replace,
}

/// The artifacts of a container.
#[derive(Debug, Clone, Copy)]
pub struct Artifacts<'a> {
    /// The container.
    pub container: Container<'a>,
}

impl Artifacts<'_> {
    /// Keeps `content` under `name`.
    ///
    /// # Errors
    ///
    /// Also that there is one of that name, or that it is too large. Then nothing has changed.
    pub fn add(
        &self,
        name: &ArtifactName,
        content: &mut dyn Read,
        existing: Existing,
    ) -> anyhow::Result<()> {
        self.require()?;
        let container = self.container.name();
        self.put(name, content, existing)
            .with_context(|| format!("adding artifact '{name}' to container '{container}'"))
    }

    /// Opens the artifact `name` for reading.
    pub fn open(&self, name: &ArtifactName) -> anyhow::Result<File> {
        self.require()?;
        let file = match self.dir()? {
            Some(dir) => match dir.open_file(OsStr::new(name.as_str())) {
                Err(err) if err.is_absent() => None,
                other => Some(other?),
            },
            None => None,
        };
        file.with_context(|| self.no_such(name))
    }

    /// All of them, sorted by name.
    pub fn list(&self) -> anyhow::Result<Vec<Artifact>> {
        self.require()?;
        let Some(dir) = self.dir()? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for file_name in dir.names()? {
            let name = file_name.to_str().and_then(|name| name.parse().ok());
            let (Some(name), Some(entry)) = (name, dir.entry(&file_name)?) else {
                continue;
            };
            if entry.kind == Kind::File {
                found.push(Artifact {
                    name,
                    bytes: entry.size,
                    added: entry.time,
                });
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes the artifact `name`.
    pub fn remove(&self, name: &ArtifactName) -> anyhow::Result<()> {
        self.require()?;
        let dir = self.dir()?.with_context(|| self.no_such(name))?;
        match dir.remove(OsStr::new(name.as_str())) {
            Err(err) if err.is_absent() => bail!(self.no_such(name)),
            other => other?,
        }
        Ok(dir.sync()?)
    }

    /// Fails unless the container is defined or something of it is kept.
    fn require(&self) -> anyhow::Result<()> {
        let known = definitions::find(self.container) != definitions::Found::Absent
            || self
                .container
                .paths()
                .container_state(self.container.name())
                .is_dir();
        if !known {
            return Err(Undefined::new(self.container).into());
        }
        Ok(())
    }

    fn no_such(&self, name: &ArtifactName) -> String {
        let container = self.container.name();
        format!(
            "container '{container}' has no artifact '{name}'; 'wharf artifact ls {container}' lists \
             what it has"
        )
    }

    fn dir_path(&self) -> PathBuf {
        let container = self.container;
        container.paths().artifacts(container.name())
    }

    fn dir(&self) -> sys::Result<Option<Dir>> {
        match Dir::open(&self.dir_path()) {
            Err(err) if err.is_absent() => Ok(None),
            other => other.map(Some),
        }
    }

    fn put(
        &self,
        name: &ArtifactName,
        content: &mut dyn Read,
        existing: Existing,
    ) -> anyhow::Result<()> {
        let path = self.dir_path();
        if self.dir()?.is_none() {
            sys::fs::ensure_dir(&path, 0o700)?;
            // The directory's own name must survive a power cut too, and those above it.
            for parent in path.ancestors().skip(1).take(3) {
                sys::fs::sync_dir(parent)?;
            }
        }
        let dir = Dir::open(&path)?;
        sweep(&dir)?;
        let temporary = format!("{TEMPORARY}{}", std::process::id());
        let temporary = OsStr::new(&temporary);
        let mut put = || -> anyhow::Result<()> {
            write(dir.make_file(temporary)?, content)?;
            let name = OsStr::new(name.as_str());
            match existing {
                Existing::Replace => dir.rename(temporary, &dir, name)?,
                // Unlike rename(2), link(2) replaces nothing.
                Existing::Keep => match dir.make_hard_link(name, &dir, temporary) {
                    Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                        bail!("there is one of that name; '--replace' replaces it")
                    }
                    other => other?,
                },
            }
            Ok(())
        };
        let put = put();
        // After a rename it is not there.
        match dir.remove(temporary) {
            Err(err) if !err.is_absent() && put.is_ok() => return Err(err.into()),
            Ok(()) | Err(_) => {}
        }
        put?;
        Ok(dir.sync()?)
    }
}

/// Removes what processes left that were killed; one that is at it is there.
fn sweep(dir: &Dir) -> sys::Result<()> {
    for name in dir.names()? {
        if sys::process::is_left_over(&name, TEMPORARY) {
            dir.remove(&name)?;
        }
    }
    Ok(())
}

/// Copies at most [`BYTES_MAX`], to the disk.
fn write(mut file: File, content: &mut dyn Read) -> anyhow::Result<()> {
    let bytes =
        io::copy(&mut content.take(BYTES_MAX + 1), &mut file).context("copying its content")?;
    ensure!(
        bytes <= BYTES_MAX,
        "it has more than {} MiB, the most that an artifact may have; a volume takes more",
        BYTES_MAX >> 20
    );
    file.sync_all().context("writing it")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::name::ContainerName;
    use crate::paths::Paths;

    struct Case {
        dir: tempfile::TempDir,
        paths: Paths,
        container: ContainerName,
    }

    impl Case {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::system(dir.path());
            let container = "web".parse().unwrap();
            let definition = dir.path().join("etc/wharf/containers/web.toml");
            sys::fs::ensure_dir(definition.parent().unwrap(), 0o755).unwrap();
            let memory = sys::fs::Durability::Memory;
            sys::fs::write_atomic(&definition, b"image = \"x\"\n", 0o644, memory).unwrap();
            Self {
                dir,
                paths,
                container,
            }
        }

        fn artifacts(&self) -> Artifacts<'_> {
            Artifacts {
                container: Container::new(&self.paths, &self.container),
            }
        }

        fn add(&self, name: &str, mut text: &[u8], existing: Existing) -> anyhow::Result<()> {
            self.artifacts()
                .add(&name.parse().unwrap(), &mut text, existing)
        }

        fn get(&self, name: &str) -> anyhow::Result<String> {
            let mut text = String::new();
            self.artifacts()
                .open(&name.parse().unwrap())?
                .read_to_string(&mut text)?;
            Ok(text)
        }

        fn files(&self) -> Vec<std::ffi::OsString> {
            sys::fs::list_dir(&self.paths.artifacts(&self.container)).unwrap()
        }
    }

    #[test]
    fn added_read_listed_replaced_and_removed() {
        let case = Case::new();
        assert!(case.artifacts().list().unwrap().is_empty());
        case.add("b.conf", b"one", Existing::Keep).unwrap();
        case.add("a", b"", Existing::Keep).unwrap();
        let said = case.add("b.conf", b"two", Existing::Keep).unwrap_err();
        assert_eq!(
            format!("{said:#}"),
            "adding artifact 'b.conf' to container 'web': there is one of that name; '--replace' \
             replaces it"
        );
        assert_eq!(case.get("b.conf").unwrap(), "one");
        case.add("b.conf", b"three", Existing::Replace).unwrap();
        case.add("new", b"x", Existing::Replace).unwrap();
        assert_eq!(case.get("b.conf").unwrap(), "three");
        let listed = case.artifacts().list().unwrap();
        let listed: Vec<_> = listed.iter().map(|a| (a.name.as_str(), a.bytes)).collect();
        assert_eq!(listed, [("a", 0), ("b.conf", 5), ("new", 1)]);
        let path = case.paths.artifacts(&case.container);
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&path.join("b.conf"))), (0o700, 0o600));
        case.artifacts().remove(&"a".parse().unwrap()).unwrap();
        for said in [
            case.artifacts().remove(&"a".parse().unwrap()).unwrap_err(),
            case.get("a").unwrap_err(),
        ] {
            assert!(said.to_string().contains("has no artifact 'a'"), "{said}");
        }
        assert_eq!(case.files(), ["b.conf", "new"]);
    }

    #[test]
    fn what_is_too_large_or_breaks_off_leaves_nothing() {
        let case = Case::new();
        let name: ArtifactName = "big".parse().unwrap();
        let keep = Existing::Keep;
        let exact = case
            .artifacts()
            .add(&name, &mut io::repeat(0).take(BYTES_MAX), keep);
        exact.unwrap();
        let more = &mut io::repeat(0).take(BYTES_MAX + 1);
        let said = case
            .artifacts()
            .add(&name, more, Existing::Replace)
            .unwrap_err();
        assert!(format!("{said:#}").contains("more than 64 MiB"), "{said:#}");
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let other = "other".parse().unwrap();
        let said = case.artifacts().add(&other, &mut b"x".chain(Broken), keep);
        assert!(format!("{:#}", said.unwrap_err()).ends_with("copying its content: broken"));
        assert_eq!(case.files(), ["big"]);
        assert_eq!(case.artifacts().list().unwrap()[0].bytes, BYTES_MAX);
    }

    #[test]
    fn leftovers_are_swept_and_links_not_followed() {
        let case = Case::new();
        case.add("a", b"mine", Existing::Keep).unwrap();
        let path = case.paths.artifacts(&case.container);
        let secret = case.dir.path().join("secret");
        let memory = sys::fs::Durability::Memory;
        for file in [&secret, &path.join(".new-2147483647")] {
            sys::fs::write_atomic(file, b"secret", 0o600, memory).unwrap();
        }
        symlink(&secret, path.join("link")).unwrap();
        let own = path.join(format!(".new-{}", std::process::id()));
        symlink(&secret, own).unwrap();
        assert!(case.get("link").is_err());
        assert_eq!(case.artifacts().list().unwrap().len(), 1);
        case.add("link", b"new", Existing::Replace).unwrap();
        assert_eq!(case.get("link").unwrap(), "new");
        assert_eq!(sys::fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(case.files(), ["a", "link"]);
        // The directory itself neither.
        std::fs::rename(&path, case.dir.path().join("elsewhere")).unwrap();
        symlink(case.dir.path().join("elsewhere"), &path).unwrap();
        assert!(case.add("c", b"", Existing::Keep).is_err() && case.get("a").is_err());
    }

    #[test]
    fn a_container_that_is_not_known_has_none() {
        let mut case = Case::new();
        case.container = "none".parse().unwrap();
        let said = case.add("a", b"", Existing::Keep).unwrap_err();
        assert!(said.is::<Undefined>(), "{said:#}");
        assert!(case.artifacts().list().is_err());
        assert!(!case.paths.container_state(&case.container).exists());
    }
}
