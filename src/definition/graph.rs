// SPDX-License-Identifier: Apache-2.0
//! Dependencies between containers: cycles, and names that nothing defines.
//!
//! systemd breaks a cycle of After= by dropping a job of its choice at boot; here it is a mistake
//! of the definitions and is said to be one, with the places of the keys that make it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::definition::load::LoadError;
use crate::definition::load::check::Between;
use crate::definition::load::scan::{Catalogue, File};
use crate::definition::problem::{Problem, escape};
use crate::definition::{Definition, cycle};
use crate::name::ContainerName;

/// Containers that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// All of them, sorted.
    pub members: Vec<ContainerName>,
    /// One problem for each member, at its `depends_on`.
    pub problems: Vec<Problem>,
}

type Loaded = (ContainerName, Result<Definition, LoadError>);

/// Finds the cycles of `depends_on`: one for each set of containers that wait for each other.
pub fn find_cycles(loaded: &[Loaded]) -> Vec<Cycle> {
    let definitions: BTreeMap<&ContainerName, &Definition> = loaded
        .iter()
        .filter_map(|(name, result)| Some((name, result.as_ref().ok()?)))
        .collect();
    let graph: cycle::Graph<'_> = definitions
        .iter()
        .map(|(&name, definition)| (name, definition.lifecycle.depends_on.as_slice()))
        .collect();
    cycle::find(&graph)
        .into_iter()
        .map(|found| describe(found, &definitions))
        .collect()
}

fn describe(found: cycle::Cycle, definitions: &BTreeMap<&ContainerName, &Definition>) -> Cycle {
    let names: Vec<&str> = found.path.iter().map(ContainerName::as_str).collect();
    let chain = names.join(" → ");
    let places: Vec<(&Path, u32)> = found
        .members
        .iter()
        .filter_map(|name| definitions.get(name)?.origin("", "depends_on"))
        .collect();
    let problem = |index: usize, &(file, line): &(&Path, u32)| {
        let others = places
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        let others: Vec<_> = others
            .map(|(_, (file, line))| format!("{}:{line}", escape(&file.to_string_lossy())))
            .collect();
        Problem {
            file: file.to_owned(),
            line,
            column: 1,
            key: "depends_on".to_owned(),
            message: format!(
                "depends_on: the containers wait for each other: {chain} (see also {})",
                others.join(", ")
            ),
        }
    };
    Cycle {
        members: found.members.into_iter().collect(),
        problems: places
            .iter()
            .enumerate()
            .map(|(index, place)| problem(index, place))
            .collect(),
    }
}

/// What is wrong between containers: cycles, and dependencies on what is not there.
pub fn between(catalogue: &Catalogue, loaded: &[Loaded]) -> Vec<Between> {
    let cycles = find_cycles(loaded).into_iter();
    let cycles = cycles.map(|Cycle { members, problems }| Between { members, problems });
    cycles.chain(find_undefined(catalogue, loaded)).collect()
}

/// Dependencies on containers that are not defined, or are masked.
fn find_undefined(catalogue: &Catalogue, loaded: &[Loaded]) -> Vec<Between> {
    let mut problems = Vec::new();
    let definitions = loaded.iter().filter_map(|(_, result)| result.as_ref().ok());
    for definition in definitions {
        for name in &definition.lifecycle.depends_on {
            let fact = match catalogue.base(name) {
                Some(File::Regular(_)) => continue,
                Some(File::Mask(_)) => "is masked",
                None => "is not defined",
            };
            if let Some((file, line)) = definition.origin("", "depends_on") {
                let problem = Problem {
                    file: file.to_owned(),
                    line,
                    column: 1,
                    key: "depends_on".to_owned(),
                    message: format!("depends_on: container '{name}' {fact}"),
                };
                problems.push(Between {
                    members: vec![definition.name.clone()],
                    problems: vec![problem],
                });
            }
        }
    }
    problems
}
