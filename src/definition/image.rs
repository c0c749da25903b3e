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

use super::PullPolicy;
use super::problem::Problem;
use super::value::text;
use crate::name::{ContainerName, UnitName};
use crate::paths::Paths;
use crate::sys;

/// Largest file of a definition.
const FILE_MAX_BYTES: u64 = 1 << 20;

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
    image: Option<String>,
    pull_policy: Option<Policy>,
    platform: Option<String>,
    enabled: Option<bool>,
    wanted_by: Option<Vec<String>>,
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
    for dir in dirs(paths) {
        let names = match sys::fs::list_dir(&dir) {
            Ok(names) => names,
            Err(err) => {
                problems.push(unreadable(&dir, &err));
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
    let undefined = || ImageError::Undefined(name.clone());
    let file = format!("{name}.toml");
    let base = dirs(paths)
        .map(|dir| dir.join(&file))
        .filter(|path| path.symlink_metadata().is_ok())
        .last()
        .ok_or_else(undefined)?;
    if is_mask(&base) {
        return Err(undefined());
    }
    let mut sources = vec![base.clone()];
    sources.extend(drop_ins(paths, name).map_err(invalid)?);
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
        image,
        pull_policy: merged.pull_policy.map(PullPolicy::from).unwrap_or_default(),
        platform: merged.platform,
        enabled: merged.enabled.unwrap_or(false),
        wanted_by: merged
            .wanted_by
            .unwrap_or_default()
            .iter()
            .filter_map(|unit| unit.parse().ok())
            .collect(),
    })
}

fn dirs(paths: &Paths) -> impl Iterator<Item = PathBuf> {
    let dirs = paths.definition_dirs().iter();
    dirs.map(|dir| dir.join("images"))
}

fn is_mask(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// A drop-in of a higher directory takes the place of one of its name.
fn drop_ins(paths: &Paths, name: &ContainerName) -> Result<Vec<PathBuf>, Problem> {
    let mut found = BTreeMap::new();
    for dir in dirs(paths) {
        let dir = dir.join(format!("{name}.toml.d"));
        for file in sys::fs::list_dir(&dir).map_err(|err| unreadable(&dir, &err))? {
            let bytes = file.as_encoded_bytes();
            if bytes.ends_with(b".toml") && !bytes.starts_with(b".") {
                found.insert(file.clone(), dir.join(file));
            }
        }
    }
    Ok(found.into_values().filter(|path| !is_mask(path)).collect())
}

fn unreadable(path: &Path, err: &sys::Error) -> Problem {
    Problem::of_file(path, &format!("cannot be read: {}", err.cause))
}

/// Reads and checks one file, so that what is wrong has its place.
fn read(path: &Path) -> Result<Fragment, Problem> {
    let bytes =
        sys::fs::read_limited(path, FILE_MAX_BYTES).map_err(|err| unreadable(path, &err))?;
    let text = String::from_utf8(bytes).map_err(|_| Problem::of_file(path, "not UTF-8"))?;
    let fragment: Fragment = toml::from_str(&text).map_err(|err| {
        let before = text
            .get(..err.span().map_or(0, |span| span.start))
            .unwrap_or_default();
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        Problem {
            line: u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            ..Problem::of_file(path, &err.message().replace('\n', " "))
        }
    })?;
    let wrong = |key: &str, why: String| {
        let line = text.lines().position(|line| {
            let rest = line.trim_start().strip_prefix(key);
            rest.is_some_and(|rest| rest.trim_start().starts_with('='))
        });
        Problem {
            line: u32::try_from(line.unwrap_or(0) + 1).unwrap_or(u32::MAX),
            key: key.to_owned(),
            ..Problem::of_file(path, &why)
        }
    };
    if let Some(image) = &fragment.image {
        text::parse_reference(image).map_err(|why| wrong("image", why.to_string()))?;
    }
    if let Some(platform) = &fragment.platform {
        let words: Vec<&str> = platform.split('/').collect();
        let is_word = |word: &&str| {
            let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            !word.is_empty() && word.bytes().all(valid)
        };
        if !(2..=3).contains(&words.len()) || !words.iter().all(is_word) {
            let why = "must be OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64";
            return Err(wrong("platform", why.to_owned()));
        }
    }
    for unit in fragment.wanted_by.iter().flatten() {
        unit.parse::<UnitName>()
            .map_err(|why| wrong("wanted_by", why))?;
    }
    Ok(fragment)
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
            ("\nimage = 'A B'\n", ":2:1: "),
            ("image = 'a'\nplatform = 'linux'\n", ":2:1: must be OS/ARCH"),
            (
                "image = 'a'\nwanted_by = ['x']\n",
                ":2:1: 'x' is not a unit name",
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
