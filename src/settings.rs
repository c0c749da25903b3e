// SPDX-License-Identifier: Apache-2.0
//! Engine settings: `wharf.toml` and `wharf.toml.d/*.toml` in the definition directories.
//!
//! Later directories win key by key; see wharf.toml(5). An absent file is all defaults.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::definition::problem::Problem;
use crate::paths::Paths;
use crate::sys;

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
        for dir in paths.definition_dirs() {
            let main = dir.join("wharf.toml");
            let drop_in_dir = dir.join("wharf.toml.d");
            let drop_ins =
                sys::fs::list_dir(&drop_in_dir).map_err(|err| unreadable(&drop_in_dir, &err))?;
            let drop_ins = drop_ins
                .iter()
                .filter(|name| name.as_encoded_bytes().ends_with(b".toml"))
                .map(|name| drop_in_dir.join(name));
            for file in std::iter::once(main).chain(drop_ins) {
                merged.merge_file(&file)?;
            }
        }
        Ok(merged)
    }

    fn merge_file(&mut self, file: &Path) -> Result<(), Problem> {
        let text = match sys::fs::read_to_string(file) {
            Err(err) if err.is_absent() => return Ok(()),
            other => other.map_err(|err| unreadable(file, &err))?,
        };
        let Self {
            runtime,
            init,
            images,
            search,
            registries,
        } = toml::from_str(&text).map_err(|err| {
            let before = text
                .get(..err.span().map_or(0, |span| span.start))
                .unwrap_or_default();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Problem {
                line: u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX),
                column: u32::try_from(column).unwrap_or(u32::MAX),
                ..Problem::of_file(file, &err.message().replace('\n', " "))
            }
        })?;
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

fn unreadable(path: &Path, err: &sys::Error) -> Problem {
    Problem::of_file(path, &format!("cannot be read: {}", err.cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_win_and_a_slip_has_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        assert_eq!(Settings::load(&paths).unwrap(), Settings::default());
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            sys::fs::write_atomic(&path, text.as_bytes(), 0o644, sys::fs::Durability::Memory)
                .unwrap();
        };
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
}
