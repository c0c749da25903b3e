// SPDX-License-Identifier: Apache-2.0
//! Cycles in `depends_on`.
//!
//! systemd breaks an ordering cycle by deleting a job of it, whichever it meets first, so that a
//! boot may lack a container without an error. The generator therefore leaves out every edge that
//! lies on a cycle, and `wharf check` says which. Pure; linear in containers and edges, and not recursive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::name::ContainerName;

/// Who depends on whom.
pub type Graph<'a> = BTreeMap<&'a ContainerName, &'a [ContainerName]>;

/// Containers that depend on each other, or one that depends on itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// All of them.
    pub members: BTreeSet<ContainerName>,
    /// A shortest cycle through the first of them, which is also its last.
    pub path: Vec<ContainerName>,
}

/// Every set of containers that depend on each other, sorted by their first member.
pub fn find(graph: &Graph<'_>) -> Vec<Cycle> {
    let mut reversed: BTreeMap<&ContainerName, Vec<&ContainerName>> = BTreeMap::new();
    for (&name, dependencies) in graph {
        for dependency in dependencies.iter() {
            reversed.entry(dependency).or_default().push(name);
        }
    }
    // Kosaraju: in the order in which a depth-first search left them, latest first, what a search
    // against the arrows reaches is strongly connected.
    let mut seen = BTreeSet::new();
    let mut cycles = Vec::new();
    for name in finish_order(graph).into_iter().rev() {
        let mut members = BTreeSet::new();
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            if seen.insert(name) {
                members.insert(name.clone());
                open.extend(reversed.get(name).into_iter().flatten());
            }
        }
        cycles.extend(shortest(graph, members));
    }
    cycles.sort_by(|a, b| a.path.cmp(&b.path));
    cycles
}

/// Names in the order in which a depth-first search leaves them.
fn finish_order<'a>(graph: &Graph<'a>) -> Vec<&'a ContainerName> {
    let mut seen = BTreeSet::new();
    let mut order = Vec::with_capacity(graph.len());
    for &start in graph.keys() {
        let mut open = Vec::new();
        if seen.insert(start) {
            open.push((start, dependencies(graph, start)));
        }
        while let Some((name, rest)) = open.last_mut() {
            let name = *name;
            match rest.split_first() {
                None => {
                    order.push(name);
                    open.pop();
                }
                Some((next, others)) => {
                    *rest = others;
                    // A container without a definition depends on nothing.
                    if graph.contains_key(next) && seen.insert(next) {
                        open.push((next, dependencies(graph, next)));
                    }
                }
            }
        }
    }
    order
}

fn dependencies<'a>(graph: &Graph<'a>, name: &ContainerName) -> &'a [ContainerName] {
    graph.get(name).copied().unwrap_or_default()
}

/// The shortest way from the first member back to itself; none when it is alone and does not
/// depend on itself.
fn shortest(graph: &Graph<'_>, members: BTreeSet<ContainerName>) -> Option<Cycle> {
    let first = members.first()?;
    let mut before: BTreeMap<&ContainerName, &ContainerName> = BTreeMap::new();
    let mut open = VecDeque::from([first]);
    while let Some(name) = open.pop_front() {
        for next in dependencies(graph, name) {
            if members.contains(next) && !before.contains_key(next) {
                before.insert(next, name);
                open.push_back(next);
            }
        }
        if before.contains_key(first) {
            break;
        }
    }
    let mut path = vec![first.clone()];
    let mut at = *before.get(first)?;
    while at != first {
        path.push(at.clone());
        at = before.get(at)?;
    }
    path.push(first.clone());
    path.reverse();
    Some(Cycle { members, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"a:b,c b:a"` → the cycles, as `"a>b>a"`.
    fn cycles(text: &str) -> Vec<String> {
        let edges: Vec<(ContainerName, Vec<ContainerName>)> = text
            .split(' ')
            .map(|node| {
                let (name, list) = node.split_once(':').unwrap();
                let list = list.split(',').filter(|n| !n.is_empty());
                (
                    name.parse().unwrap(),
                    list.map(|n| n.parse().unwrap()).collect(),
                )
            })
            .collect();
        let graph = edges.iter().map(|(n, d)| (n, d.as_slice())).collect();
        find(&graph)
            .iter()
            .map(|cycle| {
                let names: Vec<_> = cycle.path.iter().map(ContainerName::as_str).collect();
                names.join(">")
            })
            .collect()
    }

    #[test]
    fn cycles_are_found_and_nothing_else() {
        for (graph, expected) in [
            ("a: b:a c:a,b", vec![]),
            ("a:a", vec!["a>a"]),
            ("a:undefined b:a", vec![]),
            ("a:b b:a", vec!["a>b>a"]),
            // In front of, behind and between cycles is not in them.
            ("a:b b:c c:b d:c b2:a", vec!["b>c>b"]),
            ("a:b b:a,c c:d d:e e:d", vec!["a>b>a", "d>e>d"]),
            // The shortest of two ways.
            ("a:b,c b:c c:a", vec!["a>c>a"]),
        ] {
            assert_eq!(cycles(graph), expected, "{graph}");
        }
    }

    #[test]
    fn a_long_chain_does_not_overflow_the_stack() {
        let chain: Vec<String> = (0..50_000).map(|n| format!("c{n}:c{}", n + 1)).collect();
        assert_eq!(cycles(&chain.join(" ")), Vec::<String>::new());
    }
}
