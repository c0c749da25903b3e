// SPDX-License-Identifier: Apache-2.0
//! Which files there are: base files, drop-ins, masks, templates and instances.
//!
//! The rules are those of unit files (systemd.unit(5)): of files with the same name the one in the
//! directory of the highest priority counts, drop-ins included, and a link to /dev/null masks.
//! liboverdrop has the same rules, but passes over what it cannot use (a FIFO, a directory that
//! cannot be read) without a word; here that is a problem of the container, because leaving a
//! drop-in out can make a container less confined than written (threats C11, U7). It also
//! lists directories once for each name, where one pass over all of them is enough.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::definition::kind::{Kind, KindInfo, Templates};
use crate::definition::problem::Problem;
use crate::name::ContainerName;
use crate::paths::Paths;

/// One file of a definition, found but not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// To be read.
    Regular(PathBuf),
    /// A link to /dev/null.
    Mask(PathBuf),
}

/// Whose drop-ins.
#[derive(Debug, Clone, Copy)]
pub enum Group<'n> {
    /// Those in `KIND.toml.d/`.
    All,
    /// A definition's own; an instance's template's come first.
    One(&'n ContainerName),
}

/// The files of a kind in the definition directories.
#[derive(Debug)]
pub struct Catalogue {
    info: &'static KindInfo,
    /// The kind's directory in each definition directory, lowest priority first.
    dirs: Vec<PathBuf>,
    /// By stem: `web`, `web@`, `web@blue`.
    bases: BTreeMap<String, File>,
    /// By stem, then by file name.
    drop_ins: BTreeMap<String, BTreeMap<OsString, File>>,
    /// What concerns every container, such as a directory that cannot be listed.
    everywhere: Vec<Problem>,
    /// What concerns the containers of one stem.
    of_stem: BTreeMap<String, Vec<Problem>>,
    /// Files that are no container's.
    strays: Vec<Problem>,
}

impl Catalogue {
    /// Finds the files of every definition.
    pub fn scan<D: Kind>(paths: &Paths) -> Self {
        let mut catalogue = Self::with_dirs(paths, D::INFO);
        for dir in catalogue.dirs.clone() {
            match list(&dir) {
                Ok(found) => {
                    for (name, kind) in found {
                        catalogue.add_listed(&dir, &name, kind);
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => catalogue.everywhere.push(unlistable(&dir, &err)),
            }
        }
        catalogue.find_orphans();
        // Directories are read in the file system's order; what is printed has one of its own.
        catalogue.strays.sort_by(|a, b| a.file.cmp(&b.file));
        catalogue
    }

    /// Finds the files of one definition, looking at no other's.
    pub fn of_one<D: Kind>(paths: &Paths, name: &ContainerName) -> Self {
        let mut catalogue = Self::with_dirs(paths, D::INFO);
        let stems = stems(name);
        for dir in catalogue.dirs.clone() {
            match fs::metadata(&dir) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    let err = io::Error::from(nix::errno::Errno::ENOTDIR);
                    catalogue.everywhere.push(unlistable(&dir, &err));
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                Err(err) => {
                    catalogue.everywhere.push(unlistable(&dir, &err));
                    continue;
                }
            }
            for stem in &stems {
                let path = dir.join(format!("{stem}.toml"));
                if let Ok(metadata) = path.symlink_metadata() {
                    let kind = EntryKind::of(metadata.file_type());
                    catalogue.bases.insert(stem.clone(), classify(path, kind));
                }
            }
            for stem in stems.iter().map(String::as_str).chain([D::INFO.word]) {
                catalogue.add_drop_in_dir(stem, &dir.join(format!("{stem}.toml.d")));
            }
        }
        catalogue
    }

    fn with_dirs(paths: &Paths, info: &'static KindInfo) -> Self {
        let directory = info.directory();
        let dirs = paths.definition_dirs().iter();
        Self {
            info,
            dirs: dirs.map(|dir| dir.join(&directory)).collect(),
            bases: BTreeMap::new(),
            drop_ins: BTreeMap::new(),
            everywhere: Vec::new(),
            of_stem: BTreeMap::new(),
            strays: Vec::new(),
        }
    }

    /// The kind whose files these are.
    pub(crate) fn info(&self) -> &'static KindInfo {
        self.info
    }

    fn add_listed(&mut self, dir: &Path, name: &OsStr, kind: EntryKind) {
        let path = dir.join(name);
        // Hidden files are editors' and package managers' business, as with unit files; anything
        // else without our suffix is somebody else's.
        if name.as_encoded_bytes().starts_with(b".") {
            return;
        }
        let bytes = name.as_encoded_bytes();
        let is_base = bytes.ends_with(b".toml");
        if !is_base && !bytes.ends_with(b".toml.d") {
            return;
        }
        let suffix = if is_base { ".toml" } else { ".toml.d" };
        let stem = name.to_str().and_then(|name| name.strip_suffix(suffix));
        let KindInfo { word, noun, .. } = self.info;
        match stem.filter(|stem| is_stem(stem, self.info.templates)) {
            Some(stem) if is_base && stem == *word => self.strays.push(Problem::of_file(
                &path,
                &format!("no {word} can have this name, {word}.toml.d/ is for every {word}"),
            )),
            Some(stem) if is_base => {
                self.bases.insert(stem.to_owned(), classify(path, kind));
            }
            Some(stem) => self.add_drop_in_dir(stem, &path),
            None => self.strays.push(Problem::of_file(
                &path,
                &format!(
                    "the file's name is not that of {noun}: letters, digits, '_', '.' and '-', \
                     at most 63, the first a letter or digit, and not ending in .toml or .toml.d"
                ),
            )),
        }
    }

    fn add_drop_in_dir(&mut self, stem: &str, dir: &Path) {
        let found = match list(dir) {
            Ok(found) => found,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return,
            Err(err) => {
                let problem = unlistable(dir, &err);
                if stem == self.info.word {
                    self.everywhere.push(problem);
                } else {
                    self.of_stem
                        .entry(stem.to_owned())
                        .or_default()
                        .push(problem);
                }
                return;
            }
        };
        // An empty directory still makes an instance.
        let files = self.drop_ins.entry(stem.to_owned()).or_default();
        add_drop_ins(files, dir, found);
    }

    /// Drop-ins without a definition: nothing would ever read them.
    fn find_orphans(&mut self) {
        for (stem, files) in &self.drop_ins {
            let template = stem.split_once('@').map(|(base, _)| format!("{base}@"));
            let known = stem == self.info.word
                || self.bases.contains_key(stem)
                || template.is_some_and(|template| self.bases.contains_key(&template));
            if let (false, Some(File::Regular(first))) = (known, files.values().next()) {
                self.strays.push(Problem::of_file(
                    first,
                    &format!("there is no definition {stem}.toml that it could add to"),
                ));
            }
        }
    }

    /// The containers that are defined and not masked, sorted. A template is not one; an instance
    /// is when it has a file or a drop-in directory of its own.
    pub fn names(&self) -> Vec<ContainerName> {
        let instances = self.drop_ins.keys().filter(|stem| stem.contains('@'));
        let mut names: Vec<ContainerName> = self
            .bases
            .keys()
            .chain(instances)
            .filter_map(|stem| stem.parse().ok())
            .filter(|name| matches!(self.base(name), Some(File::Regular(_))))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The file that defines `name`: its own, else its template.
    pub fn base(&self, name: &ContainerName) -> Option<&File> {
        if name.as_str() == self.info.word {
            return None;
        }
        stems(name)
            .iter()
            .rev()
            .find_map(|stem| self.bases.get(stem))
    }

    /// The drop-ins of a group, in merge order, without masked ones.
    pub fn drop_ins<'c>(&'c self, group: Group<'_>) -> impl Iterator<Item = &'c Path> {
        let stems = match group {
            Group::All => vec![self.info.word.to_owned()],
            Group::One(name) => stems(name),
        };
        stems
            .into_iter()
            .filter_map(|stem| self.drop_ins.get(&stem))
            .flat_map(BTreeMap::values)
            .filter_map(|file| match file {
                File::Regular(path) => Some(path.as_path()),
                File::Mask(_) => None,
            })
    }

    /// Where a definition of `name` would be, highest priority first.
    pub fn candidates(&self, name: &ContainerName) -> Vec<PathBuf> {
        let stems = stems(name);
        let in_dir = |stem: &String| {
            let file = format!("{stem}.toml");
            self.dirs.iter().rev().map(move |dir| dir.join(&file))
        };
        stems.iter().rev().flat_map(in_dir).collect()
    }

    /// Files that are no container's: bad names, drop-ins without a definition, directories that
    /// cannot be listed.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.everywhere.iter().chain(&self.strays)
    }

    /// What is wrong with the directories that `name` comes from.
    pub(crate) fn problems_for(&self, name: &ContainerName) -> impl Iterator<Item = Problem> {
        let own = stems(name)
            .into_iter()
            .filter_map(|stem| self.of_stem.get(&stem))
            .flatten();
        self.everywhere.iter().chain(own).cloned()
    }
}

/// The files that make up one configuration file of ours: `name` itself in the directory of the
/// highest priority that has it, unless that is a mask, and the drop-ins of `name.d/` in merge order.
///
/// # Errors
///
/// A directory of drop-ins cannot be listed.
pub fn configuration_files(
    dirs: &[PathBuf],
    name: &str,
) -> Result<(Option<PathBuf>, Vec<PathBuf>), Problem> {
    let base = dirs.iter().rev().find_map(|dir| {
        let path = dir.join(name);
        let metadata = path.symlink_metadata().ok()?;
        Some(classify(path, EntryKind::of(metadata.file_type())))
    });
    let mut drop_ins = BTreeMap::new();
    for dir in dirs {
        let dir = dir.join(format!("{name}.d"));
        let found = list(&dir);
        match found {
            Ok(found) => add_drop_ins(&mut drop_ins, &dir, found),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(unlistable(&dir, &err)),
        }
    }
    let to_read = |file| match file {
        File::Regular(path) => Some(path),
        File::Mask(_) => None,
    };
    let drop_ins = drop_ins.into_values().filter_map(to_read).collect();
    Ok((base.and_then(to_read), drop_ins))
}

/// Adds the drop-ins among what a directory has; those of the same name before are replaced.
fn add_drop_ins(
    files: &mut BTreeMap<OsString, File>,
    dir: &Path,
    found: Vec<(OsString, EntryKind)>,
) {
    let is_drop_in = |name: &OsString| {
        let bytes = name.as_encoded_bytes();
        bytes.ends_with(b".toml") && !bytes.starts_with(b".")
    };
    for (name, kind) in found.into_iter().filter(|(name, _)| is_drop_in(name)) {
        let file = classify(dir.join(&name), kind);
        files.insert(name, file);
    }
}

/// The stems a definition's files can have, the more general first.
fn stems(name: &ContainerName) -> Vec<String> {
    let own = name.as_str().to_owned();
    match name.instance() {
        Some(_) => vec![format!("{}@", name.base()), own],
        None => vec![own],
    }
}

/// A container's name or a template's. Names that end like our files would make a container's
/// run-time directory look like a file of another container.
fn is_stem(stem: &str, templates: Templates) -> bool {
    if templates == Templates::No && stem.contains('@') {
        return false;
    }
    let name = stem.strip_suffix('@').unwrap_or(stem);
    name.parse::<ContainerName>().is_ok() && !name.ends_with(".toml") && !name.ends_with(".toml.d")
}

/// What a directory says of an entry without a further system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    Link,
    Other,
}

impl EntryKind {
    fn of(file_type: fs::FileType) -> Self {
        if file_type.is_symlink() {
            Self::Link
        } else {
            Self::Other
        }
    }
}

fn list(dir: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), EntryKind::of(entry.file_type()?)))
    };
    fs::read_dir(dir)?.map(entry).collect()
}

fn unlistable(dir: &Path, err: &io::Error) -> Problem {
    Problem::of_file(dir, &format!("cannot be listed: {err}"))
}

/// Tells masks from the rest. What cannot be looked at is left to the reader, which says why.
fn classify(path: PathBuf, kind: EntryKind) -> File {
    match kind {
        EntryKind::Link => {}
        EntryKind::Other => return File::Regular(path),
    }
    // By text first: in a tree that is checked for another machine there may be no /dev/null.
    let by_text = fs::read_link(&path).is_ok_and(|target| target == Path::new("/dev/null"));
    // Character device 1:3 is /dev/null by whatever name.
    let is_null = |m: fs::Metadata| {
        m.file_type().is_char_device() && m.rdev() == nix::sys::stat::makedev(1, 3)
    };
    if by_text || fs::metadata(&path).is_ok_and(is_null) {
        File::Mask(path)
    } else {
        File::Regular(path)
    }
}
