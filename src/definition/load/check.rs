// SPDX-License-Identifier: Apache-2.0
//! Everything that is wrong with the definitions of one kind.

use std::path::PathBuf;

use crate::definition::kind::Kind;
use crate::definition::load::scan::Catalogue;
use crate::definition::load::{LoadError, load, load_catalogue};
use crate::definition::problem::Problem;
use crate::name::ContainerName;
use crate::paths::Paths;

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The definitions, sorted.
    pub names: Vec<ContainerName>,
    /// What is wrong, files in the order they are merged in.
    pub problems: Vec<Problem>,
}

/// Something wrong between definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    /// The definitions that it concerns.
    pub members: Vec<ContainerName>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// Definitions of a kind as they were loaded, by name.
pub type Loaded<D> = [(ContainerName, Result<D, LoadError>)];

/// Checks the definitions `names`; when that is empty, all of them, and files that are none.
/// `between` finds what is wrong between several of them.
pub fn check<D: Kind>(
    paths: &Paths,
    names: &[ContainerName],
    between: fn(&Catalogue, &Loaded<D>) -> Vec<Between>,
) -> Checked {
    let catalogue = Catalogue::scan::<D>(paths);
    // All of them are loaded in any case: a cycle goes through some that were not named.
    let loaded = load_catalogue::<D>(&catalogue);
    let mut problems = Vec::new();
    let mut checked = Vec::new();
    if names.is_empty() {
        problems.extend(catalogue.problems().cloned());
    }
    for (name, result) in &loaded {
        if names.is_empty() || names.contains(name) {
            checked.push(name.clone());
            problems.extend(result.as_ref().err().into_iter().flat_map(describe));
        }
    }
    for name in names {
        // Undefined, masked, or an instance that nothing but its template defines.
        if !checked.contains(name) {
            let failed = load::<D>(paths, name).err();
            problems.extend(failed.iter().flat_map(describe));
            checked.push(name.clone());
        }
    }
    for wrong in between(&catalogue, &loaded) {
        if wrong.members.iter().any(|name| checked.contains(name)) {
            problems.extend(wrong.problems);
        }
    }
    checked.sort();
    Checked {
        names: checked,
        problems,
    }
}

fn describe(err: &LoadError) -> Vec<Problem> {
    match err {
        LoadError::Invalid { problems, .. } => problems.clone(),
        LoadError::Masked { file, .. } => vec![Problem::of_file(file, &err.to_string())],
        LoadError::Undefined { searched, .. } => {
            let file = searched.first().map(PathBuf::as_path);
            let problem = file.map(|file| Problem::of_file(file, &err.to_string()));
            problem.into_iter().collect()
        }
    }
}
