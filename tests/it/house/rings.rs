// SPDX-License-Identifier: Apache-2.0
//! No ring inside a module: of two files of one module, at most one uses the other, also by way of
//! others.
//!
//! A file may use what is in the files above it (`foo.rs` for `foo/bar.rs`): a parent's types are the
//! words its room speaks. What `mod tests` uses does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::layering::{Source, sources, used};

/// The path of a module, such as `engine::run::start`.
type Module = String;

/// Files by module, and for each the modules it uses, with the names it takes from them.
type Graph = BTreeMap<Module, BTreeMap<Module, BTreeSet<String>>>;

/// The module that a file is, none for a program's.
fn module_of(source: &Source) -> Option<Module> {
    let inside = source.path.strip_prefix("src").ok()?.with_extension("");
    let parts: Vec<&str> = inside.iter().map(|part| part.to_str().unwrap()).collect();
    match parts.last() {
        Some(&("main" | "lib")) | None => None,
        Some(_) => Some(parts.join("::")),
    }
}

/// The code of a file without its tests.
fn code_of(source: &Source) -> String {
    let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
    let code = code.join("\n");
    match code.find("#[cfg(test)]\nmod tests") {
        Some(end) => code[..end].to_owned(),
        None => code,
    }
}

/// The paths from the crate's root that `module` names in `code`.
fn paths(module: &str, code: &str) -> BTreeSet<String> {
    let mut paths = used(code, "crate::");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let grandparent = parent.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut relative = |prefix: &str, base: &str| {
        for path in used(code, prefix) {
            if !path.starts_with("super::") {
                paths.insert(format!("{base}::{path}"));
            }
        }
    };
    relative("super::", parent);
    relative("super::super::", grandparent);
    relative("self::", module);
    for line in code.lines() {
        let child = line
            .trim()
            .strip_suffix(';')
            .and_then(|line| line.rsplit_once("mod "));
        if let Some((_, child)) = child {
            relative(&format!("{child}::"), &format!("{module}::{child}"));
        }
    }
    paths
}

fn graph(sources: &[Source]) -> Graph {
    let modules: BTreeSet<Module> = sources.iter().filter_map(module_of).collect();
    let mut graph = Graph::new();
    for source in sources {
        let Some(module) = module_of(source) else {
            continue;
        };
        let edges = graph.entry(module.clone()).or_default();
        for path in paths(&module, &code_of(source)) {
            let Some((used, name)) = file_of(&path, &modules) else {
                continue;
            };
            let is_above = module == used || module.starts_with(&format!("{used}::"));
            if !is_above && top(&used) == top(&module) {
                edges.entry(used).or_default().insert(name);
            }
        }
    }
    graph
}

/// The file in which a path ends, and what is named of it.
fn file_of(path: &str, modules: &BTreeSet<Module>) -> Option<(Module, String)> {
    let mut prefix = path;
    loop {
        if modules.contains(prefix) {
            let name = path[prefix.len()..].trim_start_matches(':');
            return Some((prefix.to_owned(), name.to_owned()));
        }
        prefix = prefix.rsplit_once("::")?.0;
    }
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn reachable<'g>(graph: &'g Graph, from: &'g str) -> BTreeSet<&'g str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(module) = open.pop() {
        for next in graph.get(module).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    seen
}

/// Every ring: the modules that reach each other.
fn rings(graph: &Graph) -> BTreeSet<BTreeSet<&str>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|module| (module.as_str(), reachable(graph, module)))
        .collect();
    let ring_of = |module: &&str| {
        let both = reach[module]
            .iter()
            .filter(|other| reach[*other].contains(module));
        both.copied().collect::<BTreeSet<&str>>()
    };
    reach
        .keys()
        .map(ring_of)
        .filter(|ring| !ring.is_empty())
        .collect()
}

/// A ring in words: who takes what from whom.
fn describe(graph: &Graph, ring: &BTreeSet<&str>) -> String {
    let mut text = String::new();
    for module in ring {
        for (used, names) in graph[*module]
            .iter()
            .filter(|(used, _)| ring.contains(used.as_str()))
        {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            text += &format!("  {module} → {used}: {}\n", names.join(", "));
        }
    }
    text
}

#[test]
fn no_module_has_a_ring() {
    let sources = sources(&["src"]);
    let graph = graph(&sources);
    assert!(graph.len() > 200, "{}", graph.len());
    let found: Vec<String> = rings(&graph)
        .iter()
        .map(|ring| describe(&graph, ring))
        .collect();
    assert!(
        found.is_empty(),
        "{} rings:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_finder_of_rings_finds_them() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.to_owned(),
    };
    let tree = [
        source("src/a.rs", "pub mod b;\npub mod c;\nfn f() { b::g(); }"),
        source("src/a/b.rs", "use crate::a::{Up, c::{self, D}};"),
        source(
            "src/a/c.rs",
            "use super::Up;\nfn f() { super::d::e(); }\n#[cfg(test)]\nmod tests { use super::b::x; }",
        ),
        source("src/a/d.rs", "use crate::a::b::g;"),
        source("src/e.rs", "use crate::a::b;"),
        source("src/a/f.rs", "use crate::a::b;\nuse crate::e::x;"),
    ];
    let graph = graph(&tree);
    let expected: BTreeSet<&str> = ["a::b", "a::c", "a::d"].into();
    assert_eq!(rings(&graph), [expected].into());
    let text = describe(&graph, rings(&graph).first().unwrap());
    assert!(text.contains("a::b → a::c: D, self\n"), "{text}");
    assert!(text.contains("a::c → a::d: e\n"), "{text}");
    let mut straight = tree;
    straight[3].text = String::new();
    assert!(rings(&super::rings::graph(&straight)).is_empty());
}
