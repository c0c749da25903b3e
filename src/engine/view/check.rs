// SPDX-License-Identifier: Apache-2.0
//! Everything that is wrong with the administrator's files, without a running system.

use std::collections::BTreeMap;

use crate::definition::kinds::{self, Designation};
use crate::definition::problem::Problem;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::settings::Settings;

/// What was looked at, and what is wrong.
#[derive(Debug)]
pub struct Report {
    /// Definitions by the word of their kind, sorted.
    pub checked: Vec<(&'static str, ContainerName)>,
    /// What is wrong, once each: files in the order they are merged in.
    pub problems: Vec<Problem>,
}

/// Checks the settings and the definitions `wanted`; when that is empty, all of them, and files that
/// are none.
pub fn check(paths: &Paths, wanted: &[Designation]) -> Report {
    let mut names: BTreeMap<&str, Vec<ContainerName>> = BTreeMap::new();
    for definition in wanted {
        let of_kind = names.entry(definition.kind.info.word).or_default();
        of_kind.push(definition.name.clone());
    }
    // No container starts with settings that cannot be read.
    let mut problems: Vec<Problem> = Settings::load(paths).err().into_iter().collect();
    let mut checked = Vec::new();
    for kind in &kinds::ALL {
        let word = kind.info.word;
        let of_kind = match names.get(word) {
            Some(names) => (kind.check)(paths, names),
            None if wanted.is_empty() => (kind.check)(paths, &[]),
            None => continue,
        };
        problems.extend(of_kind.problems);
        checked.extend(of_kind.names.into_iter().map(|name| (word, name)));
    }
    // A mistake in a template or in a drop-in for all of them is one mistake.
    let mut seen = std::collections::HashSet::new();
    problems.retain(|problem| seen.insert(problem.to_string()));
    Report { checked, problems }
}
