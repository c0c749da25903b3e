// SPDX-License-Identifier: Apache-2.0
//! Dependencies between containers: cycles, and names that nothing defines.
//!
//! systemd breaks a cycle of After= by dropping a job of its choice at boot; here it is a mistake
//! of the definitions and is said to be one, with the places of the keys that make it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::definition::Definition;
use crate::definition::load::LoadError;
use crate::definition::load::scan::{Catalogue, File};
use crate::definition::problem::{Problem, escape};
use crate::name::ContainerName;

/// Containers that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// In order of dependency; the last depends on the first.
    pub members: Vec<ContainerName>,
    /// One problem for each member, at its `depends_on`.
    pub problems: Vec<Problem>,
}

type Loaded = (ContainerName, Result<Definition, LoadError>);

/// Finds cycles of `depends_on`, so many that each container that is in one is in one of them.
pub fn find_cycles(loaded: &[Loaded]) -> Vec<Cycle> {
    let definitions: BTreeMap<&ContainerName, &Definition> = loaded
        .iter()
        .filter_map(|(name, result)| Some((name, result.as_ref().ok()?)))
        .collect();
    let mut done = BTreeSet::new();
    let mut reported = BTreeSet::new();
    let mut cycles = Vec::new();
    for &start in definitions.keys() {
        for members in walk(start, &definitions, &mut done) {
            let known = reported.len();
            reported.extend(members.iter().copied());
            if reported.len() > known {
                cycles.push(describe(&members, &definitions));
            }
        }
    }
    cycles
}

/// Walks from `start` depth first, without recursion, and returns the cycles it meets. What is
/// walked is `done` and is not walked again.
fn walk<'d>(
    start: &'d ContainerName,
    definitions: &BTreeMap<&'d ContainerName, &'d Definition>,
    done: &mut BTreeSet<&'d ContainerName>,
) -> Vec<Vec<&'d ContainerName>> {
    let dependencies = |name: &ContainerName| {
        let definition = definitions.get(name);
        definition.map_or(&[][..], |d| d.lifecycle.depends_on.as_slice())
    };
    let mut found = Vec::new();
    if !done.insert(start) {
        return found;
    }
    let mut path = vec![start];
    let mut pending = vec![dependencies(start).iter()];
    while let Some(next) = pending.last_mut().map(Iterator::next) {
        match next {
            Some(next) => {
                if let Some(at) = path.iter().position(|name| *name == next) {
                    found.extend(path.get(at..).map(<[_]>::to_vec));
                } else if done.insert(next) {
                    path.push(next);
                    pending.push(dependencies(next).iter());
                }
            }
            None => {
                path.pop();
                pending.pop();
            }
        }
    }
    found
}

fn describe(
    members: &[&ContainerName],
    definitions: &BTreeMap<&ContainerName, &Definition>,
) -> Cycle {
    let names: Vec<&str> = members
        .iter()
        .chain(members.first())
        .map(|name| name.as_str())
        .collect();
    let chain = names.join(" → ");
    let places: Vec<(&Path, u32)> = members
        .iter()
        .filter_map(|name| definitions.get(*name)?.origin("", "depends_on"))
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
        members: members.iter().map(|name| (*name).clone()).collect(),
        problems: places
            .iter()
            .enumerate()
            .map(|(index, place)| problem(index, place))
            .collect(),
    }
}

/// Dependencies on containers that are not defined, or are masked.
pub fn find_undefined(catalogue: &Catalogue, loaded: &[Loaded]) -> Vec<Problem> {
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
                problems.push(Problem {
                    file: file.to_owned(),
                    line,
                    column: 1,
                    key: "depends_on".to_owned(),
                    message: format!("depends_on: container '{name}' {fact}"),
                });
            }
        }
    }
    problems
}
