// SPDX-License-Identifier: Apache-2.0
//! containers-registries.conf(5), version 2: what Podman, Buildah and Skopeo are configured with.
//!
//! Keys that say nothing to wharf (aliases of short names, credential helpers) are passed over.
//! A file that cannot be understood is an error, never ignored: it may be the one that blocks a
//! registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use serde::Deserialize;

use super::{Mirror, References, Rule};
use crate::paths::Paths;
use crate::reference::Reference;
use crate::sys;

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) search: Option<Vec<String>>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    unqualified_search_registries: Option<Vec<String>>,
    #[serde(default)]
    registry: Vec<Registry>,
    /// Version 1.
    registries: Option<toml::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<String>,
}

/// Reads the main file and its drop-ins, those of the higher directory last.
pub(super) fn load(paths: &Paths) -> anyhow::Result<Found> {
    let main = match std::env::var_os("CONTAINERS_REGISTRIES_CONF") {
        Some(path) => Some(PathBuf::from(path)),
        None => paths
            .registries_conf()
            .into_iter()
            .find(|path| path.exists()),
    };
    let mut files: Vec<PathBuf> = main.into_iter().collect();
    for dir in paths.registries_conf_dirs() {
        let names = sys::fs::list_dir(&dir).context("listing registries.conf.d")?;
        let names = names
            .into_iter()
            .filter(|name| name.as_encoded_bytes().ends_with(b".conf"));
        files.extend(names.map(|name| dir.join(name)));
    }
    let mut search = None;
    // A later table for the same prefix takes the place of the earlier one.
    let mut rules = BTreeMap::new();
    for file in &files {
        let found = parse(file)?;
        search = found.search.or(search);
        rules.extend(
            found
                .rules
                .into_iter()
                .map(|rule| (rule.prefix.clone(), rule)),
        );
    }
    Ok(Found {
        search,
        rules: rules.into_values().collect(),
    })
}

fn parse(file: &Path) -> anyhow::Result<Found> {
    let text = sys::fs::read_to_string(file)?;
    let document: Document = toml::from_str(&text).map_err(|err| {
        let before = text.get(..err.span().map_or(0, |span| span.start));
        let line = before.unwrap_or_default().matches('\n').count() + 1;
        anyhow!(
            "{}:{line}: {}",
            file.display(),
            err.message().replace('\n', " ")
        )
    })?;
    ensure!(
        document.registries.is_none(),
        "{}: it has the format of version 1, which is not read; write [[registry]] tables",
        file.display()
    );
    let rule = |table: Registry| rule(table, file);
    Ok(Found {
        search: document.unqualified_search_registries,
        rules: document
            .registry
            .into_iter()
            .map(rule)
            .collect::<anyhow::Result<_>>()?,
    })
}

fn rule(table: Registry, file: &Path) -> anyhow::Result<Rule> {
    let prefix = table.prefix.filter(|prefix| !prefix.is_empty());
    let prefix = prefix
        .or_else(|| table.location.clone())
        .with_context(|| format!("{}: a registry without prefix and location", file.display()))?;
    let all = if table.mirror_by_digest_only {
        References::WithDigest
    } else {
        References::All
    };
    let mirror = |mirror: MirrorTable| {
        Ok(Mirror {
            location: mirror.location,
            insecure: mirror.insecure,
            references: match mirror.pull_from_mirror.as_deref() {
                None | Some("all" | "") => all,
                Some("digest-only") => References::WithDigest,
                Some("tag-only") => References::WithTag,
                Some(other) => {
                    return Err(anyhow!(
                        "{}: pull-from-mirror is '{}'; it can be all, digest-only or tag-only",
                        file.display(),
                        other.escape_debug()
                    ));
                }
            },
        })
    };
    Ok(Rule {
        prefix: Reference::normal_name(&prefix),
        source: format!("'{}'", file.display()),
        blocked: table.blocked,
        location: table.location.filter(|location| !location.is_empty()),
        insecure: table.insecure,
        mirrors: table
            .mirror
            .into_iter()
            .map(mirror)
            .collect::<anyhow::Result<_>>()?,
        ..Rule::default()
    })
}
