// SPDX-License-Identifier: Apache-2.0
//! How a reference is reached: which registries are blocked, moved, mirrored or insecure.
//!
//! The rules of wharf.toml(5) come first; where none of them fits, those of
//! containers-registries.conf(5), read by [`containers`]. Of several that fit, the one with the
//! longest prefix counts, alone.

mod containers;

use std::path::PathBuf;

use crate::paths::Paths;
use crate::reference::Reference;
use crate::registry::error::{Failure, quote};
use crate::settings::Settings;

/// Searched for short names when nothing is configured.
const DEFAULT_SEARCH: &str = "docker.io";

/// What is configured about some references.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// A host, a host with the first components of a repository, or `*.` and a domain.
    pub(super) prefix: String,
    /// The file, for messages.
    pub(super) source: String,
    pub(super) blocked: bool,
    /// What takes the place of the prefix.
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) mirrors: Vec<Mirror>,
    /// Host of the token server that may see the registry's credentials.
    pub(super) token_realm: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Asked before the registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) references: References,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum References {
    All,
    WithDigest,
    WithTag,
}

/// One place where a reference's repository is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// With its port.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) insecure: bool,
    pub(super) is_mirror: bool,
    pub(super) token_realm: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// Everything configured about registries.
#[derive(Debug, Default)]
pub(super) struct Config {
    search: Vec<String>,
    /// Ours, then those of other files; the first list with a match counts.
    rules: [Vec<Rule>; 2],
}

impl Config {
    pub(super) fn load(paths: &Paths, settings: &Settings) -> anyhow::Result<Self> {
        let other = containers::load(paths)?;
        let search = settings.search.clone().or(other.search);
        Ok(Self {
            search: search.unwrap_or_else(|| vec![DEFAULT_SEARCH.to_owned()]),
            rules: [ours(settings), other.rules],
        })
    }

    /// Registries to look for short names in.
    pub(super) fn search(&self) -> &[String] {
        &self.search
    }

    /// Where to look for `reference`, in order; the last is the registry itself.
    ///
    /// # Errors
    ///
    /// The registry is blocked, or its location leads nowhere.
    pub(super) fn places(&self, reference: &Reference) -> Result<Vec<Place>, Failure> {
        let name = format!("{}/{}", reference.registry(), reference.repository());
        let Some(rule) = self.rule(&name) else {
            return Ok(vec![place_at(&name, &Rule::default())?]);
        };
        if rule.blocked {
            return Err(Failure::refused(format!(
                "it is blocked by {}; remove 'blocked' there to use it",
                rule.source
            )));
        }
        let mut places = Vec::with_capacity(rule.mirrors.len() + 1);
        for mirror in rule
            .mirrors
            .iter()
            .filter(|mirror| mirror.serves(reference))
        {
            let moved = rule.moved(&name, &mirror.location);
            places.push(Place {
                insecure: mirror.insecure,
                is_mirror: true,
                token_realm: None,
                ca: None,
                client: None,
                ..place_at(&moved, rule)?
            });
        }
        let moved = match &rule.location {
            Some(location) => rule.moved(&name, location),
            None => name,
        };
        places.push(place_at(&moved, rule)?);
        Ok(places)
    }

    /// The registry itself, for logging in: `host` can have a path.
    pub(super) fn registry(&self, host: &str) -> Result<Place, Failure> {
        let name = format!("{host}/login");
        let default = Rule::default();
        let rule = self.rule(&name).unwrap_or(&default);
        if rule.blocked {
            return Err(Failure::refused(format!(
                "it is blocked by {}",
                rule.source
            )));
        }
        place_at(&name, rule)
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find_map(|rules| {
            let fitting = rules.iter().filter(|rule| rule.fits(name));
            fitting.max_by_key(|rule| rule.prefix.len())
        })
    }
}

impl Rule {
    fn fits(&self, name: &str) -> bool {
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let host = name.split('/').next().unwrap_or_default();
            let host = host.split(':').next().unwrap_or_default();
            return host.len() > domain.len() && host.ends_with(domain);
        }
        name.strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| rest.starts_with('/'))
            || name == self.prefix
    }

    /// The name with `location` instead of what the prefix says.
    fn moved(&self, name: &str, location: &str) -> String {
        let rest = if self.prefix.starts_with('*') {
            name.split_once('/').map(|(_, repository)| repository)
        } else {
            name.strip_prefix(self.prefix.as_str())
        };
        let rest = rest.unwrap_or_default().trim_start_matches('/');
        let location = location.trim_end_matches('/');
        if rest.is_empty() {
            location.to_owned()
        } else {
            format!("{location}/{rest}")
        }
    }
}

impl Mirror {
    fn serves(&self, reference: &Reference) -> bool {
        match self.references {
            References::All => true,
            References::WithDigest => reference.digest().is_some(),
            References::WithTag => reference.digest().is_none(),
        }
    }
}

fn place_at(name: &str, rule: &Rule) -> Result<Place, Failure> {
    // The grammar of references keeps everything out that could be more than a host and a path.
    let checked: Option<Reference> = name.parse().ok();
    let (Some(_), Some((host, repository))) = (checked, name.split_once('/')) else {
        return Err(Failure::refused(format!(
            "{} sends it to '{}', which is not a registry and a repository; mend its 'location'",
            rule.source,
            quote(name)
        )));
    };
    Ok(Place {
        host: host.to_owned(),
        repository: repository.to_owned(),
        insecure: rule.insecure,
        is_mirror: false,
        token_realm: rule.token_realm.clone(),
        ca: rule.ca.clone(),
        client: rule.client.clone(),
    })
}

fn ours(settings: &Settings) -> Vec<Rule> {
    let rule = |registry: &crate::settings::Registry| Rule {
        prefix: Reference::normal_name(&registry.prefix),
        source: "wharf.toml".to_owned(),
        blocked: registry.blocked,
        location: registry.location.clone(),
        insecure: registry.insecure,
        mirrors: registry.mirrors.iter().map(mirror).collect(),
        token_realm: registry.token_realm.clone(),
        ca: registry.ca.clone(),
        client: registry.certificate.clone().zip(registry.key.clone()),
    };
    settings.registries.iter().map(rule).collect()
}

fn mirror(mirror: &crate::settings::Mirror) -> Mirror {
    Mirror {
        location: mirror.location.clone(),
        insecure: mirror.insecure,
        references: if mirror.digest_only {
            References::WithDigest
        } else {
            References::All
        },
    }
}
