// SPDX-License-Identifier: Apache-2.0
//! docs/threats.md is the catalogue that code and tests cite: every id that is cited has a row there,
//! and every test that a row names exists.
//!
//! An id is cited as `threats T27`, `threats T1 to T14` or `threats C1, C3`, also across the lines of
//! a comment; tests carry ids in their names (`t1_t2_names`), tables in strings (`"T1"`, `"r12_cut"`).

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CATALOGUE: &str = "docs/threats.md";

/// The sections of the catalogue.
const LETTERS: &str = "TRCXFULKSP";

/// Where ids may be cited.
const DIRECTORIES: [&str; 7] = ["src", "tests", "units", "generators", "fuzz", "man", "docs"];
const FILES: [&str; 4] = ["README.md", "SECURITY.md", "CHANGELOG.md", "Makefile"];

/// Directories of what builds and fuzzers leave.
const NOT_OURS: [&str; 3] = ["target", "corpus", "artifacts"];

struct Row {
    id: String,
    /// What the last column has in backquotes.
    names: Vec<String>,
}

#[derive(Default)]
struct Tree {
    /// Path below the repository and text.
    files: Vec<(PathBuf, String)>,
    directories: BTreeSet<PathBuf>,
}

impl Tree {
    fn read() -> Self {
        let mut tree = Self::default();
        for dir in DIRECTORIES {
            tree.add_dir(Path::new(dir));
        }
        for file in FILES {
            tree.add_file(Path::new(file));
        }
        assert!(tree.files.len() > 300, "{}", tree.files.len());
        tree
    }

    fn add_dir(&mut self, dir: &Path) {
        for entry in fs::read_dir(root().join(dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            let kind = entry.file_type().unwrap();
            let is_ours = !NOT_OURS.iter().any(|name| path.ends_with(name));
            if kind.is_file() {
                self.add_file(&path);
            } else if kind.is_dir() && is_ours {
                self.add_dir(&path);
                self.directories.insert(path);
            }
        }
    }

    fn add_file(&mut self, path: &Path) {
        let bytes = fs::read(root().join(path)).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        self.files.push((path.to_owned(), text));
    }

    fn rust(&self, below: &'static str) -> impl Iterator<Item = &(PathBuf, String)> {
        self.files.iter().filter(move |(path, _)| {
            path.starts_with(below) && path.extension().is_some_and(|e| e == "rs")
        })
    }

    /// Names that a row may have: functions of src and tests, tests that a macro makes, golden cases
    /// and files of tests.
    fn has(&self, name: &str, functions: &BTreeSet<String>) -> bool {
        let in_tests = |path: &PathBuf| path.starts_with("tests") && path.ends_with(name);
        functions.contains(name)
            || self.directories.iter().any(in_tests)
            || self.files.iter().any(|(path, _)| in_tests(path))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of all tables; those of the rigs are named in capitals.
fn rows() -> Vec<Row> {
    let text = String::from_utf8(fs::read(root().join(CATALOGUE)).unwrap()).unwrap();
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let id = cells[0].to_owned();
        if matches!(id.as_str(), "id" | "rig") {
            continue;
        }
        let is_rig = is_rig(&id);
        assert!(is_rig || read_id(&id) == Some(id.len()), "{line}");
        assert_eq!(cells.len(), if is_rig { 3 } else { 4 }, "{line}");
        let last = cells[cells.len() - 1];
        let names = last.split('`').skip(1).step_by(2).map(str::to_owned);
        let names: Vec<String> = names.collect();
        let says_so = last.starts_with("no test");
        assert_eq!(names.is_empty(), says_so, "{line}");
        rows.push(Row { id, names });
    }
    assert!(rows.len() > 80, "{}", rows.len());
    rows
}

fn is_rig(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase())
}

/// The length of the id that `text` begins with.
fn read_id(text: &str) -> Option<usize> {
    let digits = text.get(1..)?.bytes().take_while(u8::is_ascii_digit);
    let end = 1 + digits.count();
    let behind = text[end..].chars().next();
    let is_word = behind.is_some_and(|c| c.is_alphanumeric() || c == '_');
    (LETTERS.contains(&text[..1]) && end > 1 && !is_word).then_some(end)
}

/// The ids that `text` lists from its beginning: `C1, C3`, `T1 to T14`.
fn read_list(mut text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut is_range = false;
    while let Some(end) = read_id(text) {
        let (letter, number) = (&text[..1], text[1..end].parse::<u32>().unwrap());
        let first = match ids.last() {
            Some(last) if is_range && last.starts_with(letter) => last[1..].parse().unwrap(),
            _ => number,
        };
        assert!(!is_range || first < number, "no range: {text:.40}");
        ids.extend((first..=number).map(|n| format!("{letter}{n}")));
        text = &text[end..];
        is_range = text.starts_with(" to ");
        let between = [" to ", ", ", " and "];
        match between.iter().find_map(|word| text.strip_prefix(word)) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    ids
}

/// One line of the whole text, without the marks of comments.
fn joined(text: &str) -> String {
    let marks = |c: char| matches!(c, '/' | '!' | '#' | ' ' | '\t');
    let lines: Vec<&str> = text.lines().map(|l| l.trim_start_matches(marks)).collect();
    lines.join(" ")
}

/// Ids and rigs cited in prose.
fn cited(text: &str) -> BTreeSet<String> {
    let text = joined(text);
    let mut found = BTreeSet::new();
    for (at, word) in text.match_indices("hreats ") {
        found.extend(read_list(&text[at + word.len()..]));
    }
    for word in ["rig ", "rigs "] {
        for (at, _) in text.match_indices(word) {
            let names = text[at + word.len()..].split([' ', ',']);
            let names = names.filter(|name| !matches!(*name, "" | "and"));
            let names = names.map(|name| name.trim_end_matches([')', ':', ';', '.', '`']));
            found.extend(names.take_while(|name| is_rig(name)).map(str::to_owned));
        }
    }
    found
}

/// The ids that the name of a test begins with: `t1_t2_names`, but neither `f0` nor `x86_64`.
fn ids_of_name(name: &str) -> Vec<String> {
    let parts: Vec<String> = name.split(['_', '-']).map(str::to_uppercase).collect();
    let is_id = |part: &&String| read_id(part) == Some(part.len());
    let ids: Vec<String> = parts.iter().take_while(is_id).cloned().collect();
    match parts.get(ids.len()) {
        Some(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => ids,
        _ => Vec::new(),
    }
}

/// The functions of a file, and the tests that a macro makes of a list of names.
fn functions(text: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let declared = text.match_indices("fn ").map(|(at, word)| {
        let rest = &text[at + word.len()..];
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    });
    let blocks = text.split("! {\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split_once("\n}\n"));
    let is_list = |block: &&str| {
        let only = |c: char| is_word(c) || c.is_whitespace() || c == '"';
        block.chars().all(only)
    };
    let lists = blocks.map(|(block, _)| block).filter(is_list);
    let listed = lists.flat_map(|list| list.split_whitespace());
    declared.chain(listed).filter(|w| !w.is_empty()).collect()
}

/// Ids in the strings of a table of tests.
fn ids_of_strings(text: &str) -> Vec<String> {
    let strings = text.split('"').skip(1);
    strings
        .flat_map(|string| match read_id(string) {
            Some(end) if end == string.len() => vec![string.to_owned()],
            Some(_) => Vec::new(),
            None if string.contains(char::is_whitespace) => Vec::new(),
            None => ids_of_name(string),
        })
        .collect()
}

#[test]
fn every_id_that_is_cited_has_a_row() {
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let tree = Tree::read();
    let mut wrong = BTreeSet::new();
    let mut count = 0;
    let mut check = |path: &Path, ids: Vec<String>| {
        count += ids.len();
        let unknown = ids.into_iter().filter(|id| !known.contains(id));
        wrong.extend(unknown.map(|id| format!("{}: {id}", path.display())));
    };
    for (path, text) in &tree.files {
        check(path, cited(text).into_iter().collect());
    }
    for (path, text) in tree.rust("src").chain(tree.rust("tests")) {
        for name in functions(text) {
            check(path, ids_of_name(name));
        }
    }
    for (path, text) in tree.rust("tests") {
        check(path, ids_of_strings(text));
    }
    assert!(count > 500, "{count}");
    assert!(wrong.is_empty(), "not in {CATALOGUE}: {wrong:#?}");
}

#[test]
fn every_test_that_a_row_names_exists() {
    let tree = Tree::read();
    let sources = tree.rust("src").chain(tree.rust("tests"));
    let found = sources.flat_map(|(_, text)| functions(text));
    let found: BTreeSet<String> = found.map(str::to_owned).collect();
    let mut wrong = Vec::new();
    for row in rows() {
        let absent = row.names.iter().filter(|name| !tree.has(name, &found));
        wrong.extend(absent.map(|name| format!("{}: {name}", row.id)));
    }
    assert!(wrong.is_empty(), "no such test: {wrong:#?}");
}

#[test]
fn rows_are_in_order_and_there_once() {
    let ids: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let rows = ids.iter().filter(|id| !is_rig(id));
    let place = |id: &String| (LETTERS.find(&id[..1]), id[1..].parse::<u32>().unwrap());
    let places: Vec<_> = rows.map(place).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

/// The catalogue was a file elsewhere once.
#[test]
fn nothing_cites_the_catalogue_by_its_old_name() {
    let old = ["hostile", "inputs"].join("-");
    let tree = Tree::read();
    let citing = tree.files.iter().filter(|(_, text)| {
        let text = text.to_lowercase();
        text.contains(&old)
    });
    let citing: Vec<_> = citing.map(|(path, _)| path).collect();
    assert!(citing.is_empty(), "{citing:?}");
}

#[test]
fn the_parser_of_this_test_sees_every_form_of_citation() {
    let text = "//! A thing (threats C1, C3). And\n//! another (threats\n//! T14,\n//! T15).\n\
                /// Threats T1 to T3: x (threats, rig INV), rigs KILL and FS.\nthreats.md threats to all";
    let expected = [
        "C1", "C3", "FS", "INV", "KILL", "T1", "T14", "T15", "T2", "T3",
    ];
    assert_eq!(cited(text).into_iter().collect::<Vec<_>>(), expected);
    let text = "fn t1_t2_names() {}\nfn c10k() {}\nrows! {\n    k1_x s2_y \"T1\"\n}\nproptest! {\n    (no)\n}\n";
    let names = functions(text);
    assert_eq!(names, ["t1_t2_names", "c10k", "k1_x", "s2_y", "\"T1\""]);
    assert_eq!(ids_of_name("t1_t2_names"), ["T1", "T2"]);
    for name in ["c10k", "main", "f0", "x86_64"] {
        assert!(ids_of_name(name).is_empty(), "{name}");
    }
    assert_eq!(
        ids_of_strings(r#"f("T9", "r12_cut", "T1 x")"#),
        ["T9", "R12"]
    );
}
