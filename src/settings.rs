// SPDX-License-Identifier: Apache-2.0
//! Engine settings: `wharf.toml` and `wharf.toml.d/*.toml` in the definition directories.
//!
//! Later directories win key by key; see wharf.toml(5). An absent file is all defaults.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;

use crate::paths::Paths;
use crate::sys;

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
}

impl Settings {
    /// Reads and merges every settings file.
    ///
    /// # Errors
    ///
    /// A file that is not valid TOML or has an unknown key; the message names file and place.
    pub fn load(paths: &Paths) -> anyhow::Result<Self> {
        let mut merged = Self::default();
        for dir in paths.definition_dirs() {
            let main = dir.join("wharf.toml");
            let drop_in_dir = dir.join("wharf.toml.d");
            let drop_ins = sys::fs::list_dir(&drop_in_dir)?;
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

    fn merge_file(&mut self, file: &std::path::Path) -> anyhow::Result<()> {
        let text = match sys::fs::read_to_string(file) {
            Err(err) if err.is_absent() => return Ok(()),
            other => other.with_context(|| format!("reading settings '{}'", file.display()))?,
        };
        let Self { runtime, init } = toml::from_str(&text)
            .with_context(|| format!("reading settings '{}'", file.display()))?;
        self.runtime = runtime.or(self.runtime.take());
        self.init = init.or(self.init.take());
        Ok(())
    }
}
