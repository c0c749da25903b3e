// SPDX-License-Identifier: Apache-2.0
//! `images/NAME.toml`: an image that is brought in advance, by `ctr-image@NAME.service`.
//!
//! Five keys, so not the machinery of containers: a file is merged key by key with its drop-ins in
//! `NAME.toml.d/`, and of files with one name the one of the highest directory counts, as for
//! containers. A link to /dev/null masks.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::PullPolicy;
use super::load::read_file;
use super::load::scan::configuration_files;
use super::problem::{Problem, Source};
use super::value::text;
use crate::name::{ContainerName, UnitName};
use crate::paths::Paths;
use crate::sys;

/// An image that is wanted on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDefinition {
    /// The file's name.
    pub name: ContainerName,
    /// Where it was read from, the base file first.
    pub sources: Vec<PathBuf>,
    /// `image`: the reference.
    pub image: String,
    /// `pull_policy`: when to ask the registry. Defaults to missing.
    pub pull_policy: PullPolicy,
    /// `platform`: OS/ARCH[/VARIANT]. Defaults to this machine's.
    pub platform: Option<String>,
    /// `enabled`: pulled at boot. Defaults to false.
    pub enabled: bool,
    /// `wanted_by`: units that pull it when they are started.
    pub wanted_by: Vec<UnitName>,
}

/// Why there is no definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageError {
    /// There is no file, or a link to /dev/null.
    Undefined(ContainerName),
    /// Something is wrong with a file.
    Invalid(ContainerName, Problem),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined(name) => write!(
                f,
                "image '{name}' is not defined; write images/{name}.toml below /etc/wharf"
            ),
            Self::Invalid(_, problem) => fmt::Display::fmt(problem, f),
        }
    }
}

impl std::error::Error for ImageError {}

/// The unit that brings the image.
pub fn unit_of(name: &ContainerName) -> String {
    format!("ctr-image@{name}.service")
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    image: Option<Spanned<String>>,
    pull_policy: Option<Policy>,
    platform: Option<Spanned<String>>,
    enabled: Option<bool>,
    wanted_by: Option<Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Policy {
    Always,
    Missing,
    Never,
    Newer,
}

impl From<Policy> for PullPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Always => Self::Always,
            Policy::Missing => Self::Missing,
            Policy::Never => Self::Never,
            Policy::Newer => Self::Newer,
        }
    }
}

/// The names of all definitions, sorted, and files that have no name of one.
pub fn names(paths: &Paths) -> (Vec<ContainerName>, Vec<Problem>) {
    let mut found: BTreeMap<ContainerName, ()> = BTreeMap::new();
    let mut problems = Vec::new();
    for dir in &dirs(paths) {
        let names = match sys::fs::list_dir(dir) {
            Ok(names) => names,
            Err(err) => {
                problems.push(Problem::unreadable(dir, &err));
                continue;
            }
        };
        for file in names {
            let bytes = file.as_encoded_bytes();
            if bytes.starts_with(b".") || !bytes.ends_with(b".toml") {
                continue;
            }
            let stem = file.to_str().and_then(|name| name.strip_suffix(".toml"));
            let name = stem.and_then(|stem| stem.parse::<ContainerName>().ok());
            match name.filter(|name| name.instance().is_none()) {
                Some(name) => drop(found.insert(name, ())),
                None => problems.push(Problem::of_file(
                    &dir.join(&file),
                    "the file's name is not that of an image's definition: letters, digits, '_', \
                     '.' and '-', at most 63, the first a letter or digit",
                )),
            }
        }
    }
    (found.into_keys().collect(), problems)
}

/// Reads one definition.
///
/// # Errors
///
/// There is none, or it is wrong; the problem has file, line and column.
pub fn load(paths: &Paths, name: &ContainerName) -> Result<ImageDefinition, ImageError> {
    let invalid = |problem| ImageError::Invalid(name.clone(), problem);
    let (base, drop_ins) =
        configuration_files(&dirs(paths), &format!("{name}.toml")).map_err(invalid)?;
    let base = base.ok_or_else(|| ImageError::Undefined(name.clone()))?;
    let mut sources = vec![base.clone()];
    sources.extend(drop_ins);
    let mut merged = Fragment::default();
    for path in &sources {
        let fragment = read(path).map_err(invalid)?;
        merged = Fragment {
            image: fragment.image.or(merged.image),
            pull_policy: fragment.pull_policy.or(merged.pull_policy),
            platform: fragment.platform.or(merged.platform),
            enabled: fragment.enabled.or(merged.enabled),
            wanted_by: fragment.wanted_by.or(merged.wanted_by),
        };
    }
    let Some(image) = merged.image else {
        let problem = Problem::of_file(&base, "key 'image' is missing");
        return Err(invalid(problem));
    };
    Ok(ImageDefinition {
        name: name.clone(),
        sources,
        image: image.into_inner(),
        pull_policy: merged.pull_policy.map(PullPolicy::from).unwrap_or_default(),
        platform: merged.platform.map(Spanned::into_inner),
        enabled: merged.enabled.unwrap_or(false),
        wanted_by: merged
            .wanted_by
            .unwrap_or_default()
            .iter()
            .filter_map(|unit| unit.as_ref().parse().ok())
            .collect(),
    })
}

fn dirs(paths: &Paths) -> Vec<PathBuf> {
    let dirs = paths.definition_dirs().iter();
    dirs.map(|dir| dir.join("images")).collect()
}

/// Reads and checks one file, so that what is wrong has its place.
fn read(path: &Path) -> Result<Fragment, Problem> {
    let source = read_file(path)?;
    let fragment: Fragment =
        toml::from_str(source.text()).map_err(|err| Problem::of_toml(&source, &err))?;
    if let Some(image) = &fragment.image {
        text::parse_reference(image.as_ref())
            .map_err(|why| wrong(&source, image, "image", &why.to_string()))?;
    }
    if let Some(platform) = &fragment.platform
        && !is_platform(platform.as_ref())
    {
        let why = "must be OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64";
        return Err(wrong(&source, platform, "platform", why));
    }
    for unit in fragment.wanted_by.iter().flatten() {
        unit.as_ref()
            .parse::<UnitName>()
            .map_err(|why| wrong(&source, unit, "wanted_by", &why))?;
    }
    Ok(fragment)
}

fn wrong(source: &Source, value: &Spanned<String>, key: &str, why: &str) -> Problem {
    Problem::at(source, value.span().start, key, why)
}

fn is_platform(text: &str) -> bool {
    let is_word = |word: &str| {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        !word.is_empty() && word.bytes().all(valid)
    };
    (2..=3).contains(&text.split('/').count()) && text.split('/').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        sys::fs::ensure_dir(path.parent().unwrap(), 0o755).unwrap();
        let durability = sys::fs::Durability::Memory;
        sys::fs::write_atomic(&path, text.as_bytes(), 0o644, durability).unwrap();
    }

    #[test]
    fn files_are_merged_and_slips_have_a_place() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::system(dir.path());
        let name: ContainerName = "web".parse().unwrap();
        assert_eq!(
            load(&paths, &name),
            Err(ImageError::Undefined(name.clone()))
        );
        write(dir.path(), "usr/lib/wharf/images/web.toml", "image = 'a'\n");
        write(
            dir.path(),
            "etc/wharf/images/web.toml",
            "image = 'nginx:1'\nenabled = true\n",
        );
        write(
            dir.path(),
            "etc/wharf/images/web.toml.d/10.toml",
            "platform = 'linux/arm/v7'\npull_policy = 'newer'\nwanted_by = ['x.target']\n",
        );
        let definition = load(&paths, &name).unwrap();
        assert_eq!(definition.image, "nginx:1");
        assert_eq!(definition.platform.as_deref(), Some("linux/arm/v7"));
        assert_eq!(definition.pull_policy, PullPolicy::Newer);
        assert!(definition.enabled);
        assert_eq!(definition.wanted_by.len(), 1);
        assert_eq!(names(&paths).0, std::slice::from_ref(&name));
        for (bad, place) in [
            ("image = 'a'\nimgae = 'b'\n", ":2:1: unknown field `imgae`"),
            ("\nimage = 'A B'\n", ":2:9: "),
            (
                "image = 'a'\nplatform = 'linux'\n",
                ":2:12: must be OS/ARCH",
            ),
            (
                "image = 'a'\nwanted_by = ['x']\n",
                ":2:14: 'x' is not a unit name",
            ),
            ("image = 'a'\npull_policy = 'sometimes'\n", ":2:15: "),
            ("enabled = true\n", ":1:1: key 'image' is missing"),
        ] {
            write(dir.path(), "etc/wharf/images/bad.toml", bad);
            let err = load(&paths, &"bad".parse().unwrap())
                .unwrap_err()
                .to_string();
            assert!(
                err.contains(&format!("etc/wharf/images/bad.toml{place}")),
                "{err}"
            );
        }
        write(dir.path(), "etc/wharf/images/-x.toml", "");
        assert_eq!(names(&paths).1.len(), 1);
    }
}
