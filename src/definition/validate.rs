// SPDX-License-Identifier: Apache-2.0
//! The only maker of a definition: every value parsed, keys that exclude each other found.
//!
//! An error that concerns two keys is reported at one of them and names the place of the other.

use std::path::PathBuf;

use crate::definition::Origin;
use crate::definition::checker::Checker;
use crate::definition::kind::Kind;
use crate::definition::merge::Merged;
use crate::definition::problem::{Problem, Problems};
use crate::definition::take;
use crate::name::ContainerName;

/// Makes the definition of `name` out of `merged`, unless something is wrong.
pub(crate) fn validate<D: Kind>(
    name: &ContainerName,
    sources: Vec<PathBuf>,
    merged: &Merged<'_, D>,
    mut problems: Problems,
) -> Result<D, Vec<Problem>> {
    let mut definition = D::blank(name);
    let mut origins = Vec::new();
    for entry in merged.entries() {
        take::apply(entry, name.instance(), &mut definition, &mut problems);
        let path = entry.source.path().as_os_str();
        let file = sources.iter().position(|source| source.as_os_str() == path);
        if let (None, Some(file)) = (entry.part, file) {
            origins.push(Origin {
                table: entry.key.table,
                name: entry.key.name,
                file,
                line: entry.source.line(entry.key_at),
            });
        }
    }
    origins.sort_by_key(|origin| (origin.file, origin.line));
    if !merged.replaced.is_empty() {
        let mut scratch = D::blank(name);
        for entry in &merged.replaced {
            take::apply(entry, name.instance(), &mut scratch, &mut problems);
        }
    }
    let mut checker = Checker {
        base: sources.first().map(PathBuf::as_path),
        merged,
        problems: &mut problems,
    };
    definition.check(&mut checker);
    if problems.is_empty() {
        definition.set_origins(sources, origins);
        Ok(definition)
    } else {
        Err(problems.into_sorted(&sources))
    }
}
