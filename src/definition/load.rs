// SPDX-License-Identifier: Apache-2.0
//! Definitions from disk: find the files, read, merge, check.
//!
//! The only module of `definition` that reads files. One definition's files never matter to
//! another's, except the drop-ins in `KIND.toml.d/` that are written for all of them: a mistake in
//! one of those fails every one, since ignoring it would make each of them less confined than written.

use std::fmt;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use crate::definition::fragment::{self, FILE_MAX_BYTES, Parsed};
use crate::definition::kind::Kind;
use crate::definition::load::scan::{Catalogue, File, Group};
use crate::definition::merge::{Merged, Setting};
use crate::definition::problem::{Problem, Problems, Source};
use crate::definition::validate;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::sys;

pub mod check;
pub mod scan;

/// Why there is no definition.
///
/// The generator skips on `Masked`, `wharf start` exits differently on `Undefined`, and
/// `wharf check` prints every problem of `Invalid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// There is no file for the name.
    Undefined {
        /// The word of its kind.
        kind: &'static str,
        /// Its name.
        name: ContainerName,
        /// Where its file was looked for, highest priority first.
        searched: Vec<PathBuf>,
    },
    /// The file is a link to /dev/null.
    Masked {
        /// The word of its kind.
        kind: &'static str,
        /// Its name.
        name: ContainerName,
        /// The link.
        file: PathBuf,
    },
    /// Something is wrong with one of its files.
    Invalid {
        /// The word of its kind.
        kind: &'static str,
        /// Its name.
        name: ContainerName,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl LoadError {
    /// The first file that something is wrong with.
    pub fn first_file(&self) -> Option<&Path> {
        match self {
            Self::Invalid { problems, .. } => {
                problems.first().map(|problem| problem.file.as_path())
            }
            Self::Undefined { .. } | Self::Masked { .. } => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &ContainerName {
        match self {
            Self::Undefined { name, .. }
            | Self::Masked { name, .. }
            | Self::Invalid { name, .. } => name,
        }
    }
}

impl fmt::Display for LoadError {
    /// One line, fit for `STATUS=`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undefined {
                kind,
                name,
                searched,
            } => {
                write!(f, "{kind} '{name}' is not defined, looked for")?;
                for (index, path) in searched.iter().enumerate() {
                    let separator = if index == 0 { " " } else { ", " };
                    write!(f, "{separator}{}", path.display())?;
                }
                Ok(())
            }
            Self::Masked { kind, name, file } => {
                write!(
                    f,
                    "{kind} '{name}' is masked: {} is a link to /dev/null",
                    file.display()
                )
            }
            Self::Invalid {
                kind,
                name,
                problems,
            } => match problems.as_slice() {
                [] => write!(f, "{kind} '{name}' is not valid"),
                [only] => write!(f, "{only}"),
                [first, rest @ ..] => write!(
                    f,
                    "{first} (and {} more; run 'wharf check {}')",
                    rest.len(),
                    designation(kind, name)
                ),
            },
        }
    }
}

impl std::error::Error for LoadError {}

/// A definition as commands take it: `NAME` for a container, else `KIND/NAME`.
pub fn designation(kind: &str, name: &ContainerName) -> String {
    match kind {
        "container" => name.as_str().to_owned(),
        kind => format!("{kind}/{name}"),
    }
}

/// Loads one definition; others' files are not looked at.
///
/// # Errors
///
/// See [`LoadError`].
pub fn load<D: Kind>(paths: &Paths, name: &ContainerName) -> Result<D, LoadError> {
    let catalogue = Catalogue::of_one::<D>(paths, name);
    with_shared(&catalogue, |shared| load_one(&catalogue, name, shared))
}

/// Loads every definition, sorted by name. Masked ones are left out; so are templates, whose
/// instances are there when a file or drop-in directory of theirs is.
pub fn load_all<D: Kind>(paths: &Paths) -> Vec<(ContainerName, Result<D, LoadError>)> {
    load_catalogue(&Catalogue::scan::<D>(paths))
}

/// As [`load_all`], for a catalogue that was made before.
pub fn load_catalogue<D: Kind>(
    catalogue: &Catalogue,
) -> Vec<(ContainerName, Result<D, LoadError>)> {
    /// Fewer are read faster than a thread is made.
    const THREAD_MIN: usize = 32;
    let names: Vec<ContainerName> = catalogue.names();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (names.len() / THREAD_MIN).clamp(1, cores);
    let share = names.len().div_ceil(threads).max(1);
    with_shared(catalogue, |shared| {
        let load_share = |names: &[ContainerName]| {
            let load = |name: &ContainerName| (name.clone(), load_one(catalogue, name, shared));
            names.iter().map(load).collect::<Vec<_>>()
        };
        let (ours, others) = names.split_at(share.min(names.len()));
        thread::scope(|scope| {
            let others: Vec<_> = others
                .chunks(share)
                .map(|names| scope.spawn(move || load_share(names)))
                .collect();
            let mut loaded = load_share(ours);
            for other in others {
                match other.join() {
                    Ok(share) => loaded.extend(share),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            loaded
        })
    })
}

/// Calls `with` with the drop-ins that apply to every definition of its kind, read and parsed once.
fn with_shared<R>(catalogue: &Catalogue, with: impl FnOnce(&Shared<'_>) -> R) -> R {
    let (sources, unreadable) = read_files(catalogue.drop_ins(Group::All));
    let shared = Shared {
        parsed: sources.iter().map(fragment::parse).collect(),
        unreadable,
    };
    with(&shared)
}

/// What applies to every definition of a kind.
struct Shared<'a> {
    parsed: Vec<Parsed<'a>>,
    unreadable: Vec<Problem>,
}

fn load_one<D: Kind>(
    catalogue: &Catalogue,
    name: &ContainerName,
    shared: &Shared<'_>,
) -> Result<D, LoadError> {
    with_merged(catalogue, name, shared, |files| {
        validate::validate(name, files.sources, &files.merged, files.problems)
    })?
    .map_err(|problems| LoadError::Invalid {
        kind: D::INFO.word,
        name: name.clone(),
        problems,
    })
}

/// The files of one definition, merged but not checked.
struct MergedFiles<'a, D: 'static> {
    sources: Vec<PathBuf>,
    merged: Merged<'a, D>,
    problems: Problems,
}

/// Calls `with` with the merged files of a definition.
fn with_merged<D: Kind, R>(
    catalogue: &Catalogue,
    name: &ContainerName,
    shared: &Shared<'_>,
    with: impl FnOnce(MergedFiles<'_, D>) -> R,
) -> Result<R, LoadError> {
    let own = OwnFiles::read(catalogue, name)?;
    let parsed: Vec<_> = own.sources.iter().map(fragment::parse).collect();
    let mut problems = own.problems(catalogue, name, shared);
    let ordered = own.in_merge_order(&parsed, shared);
    let mut merged = Merged::new();
    for file in &ordered {
        merged.add(file.read(&mut problems));
    }
    Ok(with(MergedFiles {
        sources: own.paths(shared),
        merged,
        problems,
    }))
}

/// What the files of a definition say, for people to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Every file that was merged, in order.
    pub sources: Vec<PathBuf>,
    /// Every key that is set, by table and name.
    pub settings: Vec<Setting>,
    /// What is wrong, as [`load`] reports it.
    pub problems: Vec<Problem>,
}

/// Reads what holds for a definition and where each of it was set; works for invalid ones too.
///
/// # Errors
///
/// It is undefined or masked.
pub fn load_effective<D: Kind>(
    paths: &Paths,
    name: &ContainerName,
) -> Result<Effective, LoadError> {
    let catalogue = Catalogue::of_one::<D>(paths, name);
    with_shared(&catalogue, |shared| {
        with_merged::<D, _>(&catalogue, name, shared, |files| {
            let settings = files.merged.settings(name.instance());
            let sources = files.sources.clone();
            let checked = validate::validate(name, files.sources, &files.merged, files.problems);
            Effective {
                sources,
                settings,
                problems: checked.err().unwrap_or_default(),
            }
        })
    })
}

/// The files of one definition but the shared ones.
struct OwnFiles {
    /// The base file, if it could be read, then the drop-ins that could be.
    sources: Vec<Source>,
    /// Whether the first of them is the base file.
    base_is_read: bool,
    base: PathBuf,
    unreadable: Vec<Problem>,
}

impl OwnFiles {
    fn read(catalogue: &Catalogue, name: &ContainerName) -> Result<Self, LoadError> {
        let base = match catalogue.base(name) {
            Some(File::Regular(path)) => path,
            Some(File::Mask(file)) => {
                return Err(LoadError::Masked {
                    kind: catalogue.info().word,
                    name: name.clone(),
                    file: file.clone(),
                });
            }
            None => {
                return Err(LoadError::Undefined {
                    kind: catalogue.info().word,
                    name: name.clone(),
                    searched: catalogue.candidates(name),
                });
            }
        };
        let (mut sources, mut unreadable) = read_files(std::iter::once(base.as_path()));
        let base_is_read = !sources.is_empty();
        let (drop_ins, more) = read_files(catalogue.drop_ins(Group::One(name)));
        sources.extend(drop_ins);
        unreadable.extend(more);
        Ok(Self {
            sources,
            base_is_read,
            base: base.clone(),
            unreadable,
        })
    }

    /// What is wrong before any of them is parsed.
    fn problems(
        &self,
        catalogue: &Catalogue,
        name: &ContainerName,
        shared: &Shared<'_>,
    ) -> Problems {
        let mut problems = Problems::default();
        let of_directories = catalogue.problems_for(name);
        let of_files = self.unreadable.iter().chain(&shared.unreadable).cloned();
        for problem in of_directories.chain(of_files) {
            problems.add(problem);
        }
        problems
    }

    /// The base file, what applies to every definition of its kind, the container's own drop-ins.
    fn in_merge_order<'p, 'a>(
        &self,
        parsed: &'p [Parsed<'a>],
        shared: &'p Shared<'a>,
    ) -> Vec<&'p Parsed<'a>> {
        let (base, drop_ins) = parsed.split_at(usize::from(self.base_is_read).min(parsed.len()));
        base.iter().chain(&shared.parsed).chain(drop_ins).collect()
    }

    /// Every file that was read, the base file first even if it was not.
    fn paths(&self, shared: &Shared<'_>) -> Vec<PathBuf> {
        let own = self.sources.iter().map(Source::path);
        let drop_ins = own.skip(usize::from(self.base_is_read));
        let shared = shared.parsed.iter().map(|parsed| parsed.source.path());
        std::iter::once(self.base.as_path())
            .chain(shared)
            .chain(drop_ins)
            .map(Path::to_owned)
            .collect()
    }
}

fn read_files<'p>(files: impl Iterator<Item = &'p Path>) -> (Vec<Source>, Vec<Problem>) {
    let mut sources = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match read_file(file) {
            Ok(source) => sources.push(source),
            Err(problem) => problems.push(problem),
        }
    }
    (sources, problems)
}

/// Reads one file: UTF-8, at most [`FILE_MAX_BYTES`].
pub(crate) fn read_file(path: &Path) -> Result<Source, Problem> {
    let bytes = sys::fs::read_limited(path, FILE_MAX_BYTES)
        .map_err(|err| Problem::unreadable(path, &err))?;
    let text = String::from_utf8(bytes).map_err(|err| {
        let before = err.as_bytes().get(..err.utf8_error().valid_up_to());
        let before = String::from_utf8_lossy(before.unwrap_or_default());
        let source = Source::new(path.to_owned(), before.into_owned());
        let end = source.text().len();
        Problem::at(&source, end, "", "not UTF-8 from here")
    })?;
    if text.starts_with('\u{feff}') {
        return Err(Problem::of_file(
            path,
            "begins with a byte order mark, save it as UTF-8 without one",
        ));
    }
    Ok(Source::new(path.to_owned(), text))
}
