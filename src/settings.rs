// SPDX-License-Identifier: Apache-2.0
//! Engine settings: `wharf.toml` and `wharf.toml.d/*.toml` in the definition directories.
//!
//! The rules are those of definitions: of files with the same name the one in the directory of
//! the highest priority counts, drop-ins follow in the order of their names, and a link to
//! /dev/null masks. Later files win key by key; see wharf.toml(5). Absent is all defaults.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::definition::load::read_file;
use crate::definition::load::scan::configuration_files;
use crate::definition::problem::Problem;
use crate::paths::Paths;

pub mod images;

use self::images::Images;

/// Settings of the engine, the same for all containers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `runtime`: the OCI runtime, a name on PATH or an absolute path. Defaults to the first of
    /// crun, runc that is there.
    pub runtime: Option<PathBuf>,
    /// `init`: the program put into containers with `init = true`. Defaults to the first of
    /// catatonit, tini-static that is there.
    pub init: Option<PathBuf>,
    /// `[images]`: how much room images may take.
    #[serde(default)]
    pub images: Images,
    /// `search`: registries that short names such as `nginx` are looked for in, in order.
    /// Defaults to that of containers-registries.conf(5), else to docker.io.
    pub search: Option<Vec<String>>,
    /// `[[registries]]`: how registries are reached.
    #[serde(default)]
    pub registries: Vec<Registry>,
}

/// How the references that begin with a prefix are reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// `prefix`: a host with its port, such as `registry.example.com:5000`, perhaps with the first
    /// components of a repository, or `*.` and a domain. Of several that fit the longest counts.
    pub prefix: String,
    /// `location`: what takes the place of the prefix. Defaults to the prefix.
    pub location: Option<String>,
    /// `insecure`: accept any certificate, or no TLS at all. Defaults to false.
    #[serde(default)]
    pub insecure: bool,
    /// `blocked`: refuse these references. Defaults to false.
    #[serde(default)]
    pub blocked: bool,
    /// `token_realm`: the host of a token server elsewhere that may see the credentials.
    pub token_realm: Option<String>,
    /// `ca`: a file of certificates that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// `certificate`: our own, for a registry that asks for one; goes with `key`.
    pub certificate: Option<PathBuf>,
    /// `key`: the private key of `certificate`.
    pub key: Option<PathBuf>,
    /// `mirrors`: asked first, in order.
    #[serde(default)]
    pub mirrors: Vec<Mirror>,
}

/// A place with copies of what a registry has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// `location`: what takes the place of the registry's prefix.
    pub location: String,
    /// `insecure`: as for the registry. Defaults to false.
    #[serde(default)]
    pub insecure: bool,
    /// `digest_only`: ask it only for references with a digest. Defaults to false.
    #[serde(default)]
    pub digest_only: bool,
}

impl Settings {
    /// Reads and merges every settings file.
    ///
    /// # Errors
    ///
    /// A file that is not valid TOML or has an unknown key; the message names file and place.
    pub fn load(paths: &Paths) -> Result<Self, Problem> {
        let mut merged = Self::default();
        let (base, drop_ins) = configuration_files(paths.definition_dirs(), "wharf.toml")?;
        for file in base.iter().chain(&drop_ins) {
            merged.merge_file(file)?;
        }
        Ok(merged)
    }

    fn merge_file(&mut self, file: &Path) -> Result<(), Problem> {
        let source = match read_file(file) {
            // Removed since it was found. A link that leads nowhere is still there, and a mistake.
            Err(_) if is_gone(file) => return Ok(()),
            other => other?,
        };
        let Self {
            runtime,
            init,
            images,
            search,
            registries,
        } = toml::from_str(source.text()).map_err(|err| Problem::of_toml(&source, &err))?;
        self.runtime = runtime.or(self.runtime.take());
        self.init = init.or(self.init.take());
        self.images = images.or(std::mem::take(&mut self.images));
        self.search = search.or(self.search.take());
        for registry in registries {
            // A later table takes the place of an earlier one for the same prefix.
            self.registries
                .retain(|other| other.prefix != registry.prefix);
            self.registries.push(registry);
        }
        Ok(())
    }
}

fn is_gone(file: &Path) -> bool {
    let found = file.symlink_metadata();
    found.is_err_and(|err| err.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    fn rig() -> (tempfile::TempDir, Paths, impl Fn(&str, &str)) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let root = dir.path().to_owned();
        let write = move |file: &str, text: &str| {
            let path = root.join(file);
            sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            sys::fs::write_atomic(&path, text.as_bytes(), 0o644, sys::fs::Durability::Memory)
                .unwrap();
        };
        (dir, paths, write)
    }

    #[test]
    fn later_files_win_and_a_slip_has_a_place() {
        let (_dir, paths, write) = rig();
        assert_eq!(Settings::load(&paths).unwrap(), Settings::default());
        write(
            "usr/lib/wharf/wharf.toml",
            "runtime = \"crun\"\ninit = \"tini\"\n",
        );
        write("etc/wharf/wharf.toml.d/10.toml", "runtime = \"runc\"\n");
        let settings = Settings::load(&paths).unwrap();
        assert_eq!(settings.runtime, Some(PathBuf::from("runc")));
        assert_eq!(settings.init, Some(PathBuf::from("tini")));
        write(
            "etc/wharf/wharf.toml",
            "runtime = \"crun\"\n  runtme = \"runc\"\n",
        );
        let err = Settings::load(&paths).unwrap_err().to_string();
        assert!(
            err.contains("etc/wharf/wharf.toml:2:3: unknown field"),
            "{err}"
        );
    }

    #[test]
    fn drop_ins_follow_the_rules_of_units() {
        let (dir, paths, write) = rig();
        let runtime = || Settings::load(&paths).unwrap().runtime;
        write(
            "usr/lib/wharf/wharf.toml.d/90-last.toml",
            "runtime = \"last\"",
        );
        write(
            "etc/wharf/wharf.toml.d/10-first.toml",
            "runtime = \"first\"",
        );
        // By name, whatever the directory …
        assert_eq!(runtime(), Some(PathBuf::from("last")));
        // … and the higher directory's file instead of the lower one's.
        write("run/wharf/wharf.toml.d/90-last.toml", "init = \"tini\"");
        assert_eq!(runtime(), Some(PathBuf::from("first")));
        let mask = dir.path().join("etc/wharf/wharf.toml.d/90-last.toml");
        std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
        assert_eq!(Settings::load(&paths).unwrap().init, None);
        // The same for the file itself.
        write("usr/lib/wharf/wharf.toml", "init = \"vendor\"");
        assert_eq!(
            Settings::load(&paths).unwrap().init,
            Some(PathBuf::from("vendor"))
        );
        let mask = dir.path().join("etc/wharf/wharf.toml");
        std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
        assert_eq!(Settings::load(&paths).unwrap().init, None);
    }

    #[test]
    fn registries_are_merged_by_prefix() {
        let (_dir, paths, write) = rig();
        write(
            "usr/lib/wharf/wharf.toml",
            "search = [\"quay.io\"]\n[[registries]]\nprefix = \"a.example\"\nblocked = true\n\
             [[registries]]\nprefix = \"b.example\"\ninsecure = true\n\
             mirrors = [{ location = \"m.example\", digest_only = true }]\n",
        );
        write(
            "etc/wharf/wharf.toml.d/10.toml",
            "[[registries]]\nprefix = \"a.example\"\ntoken_realm = \"t.example\"\n",
        );
        let settings = Settings::load(&paths).unwrap();
        assert_eq!(settings.search, Some(vec!["quay.io".to_owned()]));
        let [b, a] = settings.registries.as_slice() else {
            panic!("{settings:?}");
        };
        assert!(b.insecure && b.mirrors.len() == 1 && !a.blocked);
        assert_eq!(a.token_realm.as_deref(), Some("t.example"));
        write(
            "etc/wharf/wharf.toml.d/20.toml",
            "[[registries]]\nprefix = 1\n",
        );
        let err = Settings::load(&paths).unwrap_err().to_string();
        assert!(err.contains("20.toml:2:"), "{err}");
    }
}
