// SPDX-License-Identifier: Apache-2.0
//! The rules of the source tree that the compiler does not know.
//!
//! Which module may use which is the table below, the same as the layer map in src/lib.rs; the
//! rest keeps `unsafe`, raw descriptors and libc in src/sys, and files short and headed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const FILE_MAX_LINES: usize = 600;

/// Modules, and what each may use; `a::b` allows only that part of `a`. Use of itself is always
/// allowed, and so is the standard library. `main` is src/main.rs and the like. The rooms of `engine`
/// have rows of their own. A permission that no file uses is an error too: the table says what is.
const MAY_USE: &[(&str, &[&str])] = &[
    // 0. programs: start logging, parse, dispatch
    ("main", &["cli", "generator", "journal", "paths"]),
    // 1. front ends: 'cli' asks the engine, and knows besides it only words that people write
    (
        "cli",
        &[
            "engine::container",
            "engine::control",
            "engine::difference",
            "engine::files",
            "engine::images",
            "engine::refusal",
            "engine::run",
            "engine::view",
            "definition",
            "instruction",
            "platform",
            "reference",
            "digest",
            "paths",
            "name",
            "sys::prompt",
        ],
    ),
    (
        "generator",
        &[
            "journal::kmsg",
            "definition",
            "unitfile",
            "paths",
            "name",
            "sys",
        ],
    ),
    // 2. what we do: each room uses only those below it
    ("engine", &[]),
    (
        "engine::control",
        &[
            "engine::refusal",
            "engine::container",
            "engine::files",
            "engine::run",
            "engine::view",
            "systemd",
            "records",
            "definition",
            "paths",
            "name",
            "sys",
        ],
    ),
    (
        "engine::run",
        &[
            "engine::container",
            "engine::files",
            "engine::images",
            "engine::inside",
            "engine::spec",
            "relay::invocation",
            "image",
            "storage",
            "runtime",
            "systemd",
            "journal",
            "records",
            "settings",
            "definition",
            "paths",
            "name",
            "sys",
        ],
    ),
    (
        "engine::files",
        &[
            "engine::difference",
            "engine::refusal",
            "engine::container",
            "engine::images",
            "engine::spec",
            "engine::view",
            "image",
            "storage",
            "records",
            "definition",
            "instruction",
            "digest",
            "paths",
            "name",
            "sys",
        ],
    ),
    (
        "engine::inside",
        &[
            "engine::spec",
            "image",
            "storage",
            "definition",
            "paths",
            "name",
            "sys",
        ],
    ),
    (
        "engine::images",
        &[
            "engine::difference",
            "engine::refusal",
            "storage",
            "instruction",
            "platform",
            "reference",
            "digest",
            "engine::container",
            "engine::view",
            "image",
            "registry",
            "systemd",
            "journal",
            "records",
            "settings",
            "definition",
            "paths",
            "name",
            "sys",
        ],
    ),
    ("engine::spec", &["definition", "paths", "sys"]),
    (
        "engine::view",
        &[
            "engine::refusal",
            "journal",
            "engine::container",
            "systemd",
            "records",
            // What 'wharf check' judges too.
            "settings",
            "definition",
            "paths",
            "name",
            "sys",
        ],
    ),
    ("engine::difference", &["storage"]),
    (
        "engine::refusal",
        &["engine::container", "image", "registry", "systemd", "name"],
    ),
    (
        "engine::container",
        &["systemd", "records", "paths", "name", "sys"],
    ),
    // What the engine becomes by exec: the relay's command line is one type for writer and reader.
    // It uses no more than it must, as it stays beside every container.
    ("relay", &["journal::stream", "journal::event", "sys"]),
    // 3. what we use: siblings do not know each other, except image → storage and registry
    (
        "image",
        &[
            "instruction",
            "platform",
            "storage",
            "registry",
            "definition",
            "reference",
            "digest",
            "paths",
            "sys",
        ],
    ),
    ("storage", &["digest", "paths", "name", "sys"]),
    (
        "registry",
        &["settings", "reference", "digest", "paths", "sys"],
    ),
    ("runtime", &["settings", "paths", "name", "sys"]),
    ("systemd", &["paths", "name", "sys"]),
    ("journal", &["paths", "name", "sys"]),
    ("records", &["definition", "paths", "name", "sys"]),
    // 4. vocabulary. Both files of the administrator are found by the same rules and complained about in the
    // same form.
    (
        "settings",
        &[
            "definition::problem",
            "definition::load",
            "definition::value",
            "paths",
            "sys",
        ],
    ),
    ("definition", &["paths", "name", "sys"]),
    ("unitfile", &["sys"]),
    ("instruction", &[]),
    ("platform", &[]),
    ("reference", &["digest"]),
    ("digest", &[]),
    ("paths", &["name"]),
    ("name", &[]),
    // 5. kernel
    ("sys", &[]),
];

/// What only src/sys may hold, as it stands in the code.
const ONLY_IN_SYS: &[&str] = &[
    "unsafe {",
    "unsafe fn",
    "unsafe impl",
    "unsafe extern",
    "(unsafe_code",
    "libc::",
    // Not AsRawFd: the owner stays what it is, and /proc/self/fd/N needs the number.
    " RawFd",
    "<RawFd",
    "{RawFd",
    "FromRawFd",
    "IntoRawFd",
];

pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// The crate's module that the file belongs to.
    fn module(&self) -> String {
        let inside = self.path.strip_prefix("src").unwrap_or(&self.path);
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let program = !self.path.starts_with("src")
            || first == "lib.rs"
            || inside.file_name().unwrap() == "main.rs";
        match (program, first) {
            // The relay is a module of its own and a program.
            (true, "relay") => "relay".to_owned(),
            (true, _) => "main".to_owned(),
            (false, "engine") => {
                let room = inside.iter().nth(1).unwrap().to_str().unwrap();
                format!("engine::{}", room.trim_end_matches(".rs"))
            }
            (false, first) => first.trim_end_matches(".rs").to_owned(),
        }
    }

    /// The lines of code with their numbers, comments taken off.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| {
            let code = match line.find("//") {
                // A "://" is in a string.
                Some(at) if !line[..at].ends_with(':') => &line[..at],
                _ => line,
            };
            (index + 1, code)
        })
    }

    fn is_below(&self, dir: &str) -> bool {
        self.path.starts_with(dir) || self.path == Path::new(&format!("{dir}.rs"))
    }
}

pub(super) fn sources(dirs: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = dirs.iter().map(PathBuf::from).collect();
    let mut sources = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(root.join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let bytes = fs::read(root.join(&path)).unwrap();
                let text = String::from_utf8(bytes).unwrap();
                sources.push(Source { path, text });
            }
        }
    }
    assert!(!sources.is_empty());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Every path that `text` names below `prefix`, such as `journal::kmsg`, braces written out.
pub(super) fn used(text: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        expand("", &text[at + prefix.len()..], &mut found);
    }
    found
}

/// Reads `a::b::{c, d::e}` from the start of `rest`; returns how many bytes it took.
fn expand(base: &str, rest: &str, found: &mut BTreeSet<String>) -> usize {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
    let path = format!("{base}{}", &rest[..end]);
    if !rest[end..].starts_with('{') {
        found.insert(path.trim_end_matches(':').to_owned());
        return end;
    }
    let mut at = end + 1;
    while let Some(c) = rest[at..].chars().next() {
        match c {
            '}' => return at + 1,
            c if word(c) => at += expand(&path, &rest[at..], found),
            c => at += c.len_utf8(),
        }
    }
    at
}

/// Whether `path` is `of` or something in it.
fn is_inside(path: &str, of: &str) -> bool {
    path.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What `module` may use.
fn permissions(module: &str) -> &'static [&'static str] {
    let row = MAY_USE.iter().find(|(name, _)| *name == module);
    row.unwrap_or_else(|| {
        panic!("module '{module}' is not in the table of tests/it/house/layering.rs")
    })
    .1
}

fn is_allowed(module: &str, path: &str) -> bool {
    let allowed = permissions(module);
    is_inside(path, module) || allowed.iter().any(|allowed| is_inside(path, allowed))
}

/// Every use of another module: the file, its module, the path.
fn uses() -> Vec<(PathBuf, String, String)> {
    let mut uses = Vec::new();
    for source in sources(&["src", "generators"]) {
        let module = source.module();
        let code: Vec<&str> = source.code().map(|(_, line)| line).collect();
        let code = code.join("\n");
        let paths = used(&code, "crate::")
            .into_iter()
            .chain(used(&code, "wharf::"));
        for path in paths.filter(|path| !path.is_empty() && !is_inside(path, &module)) {
            uses.push((source.path.clone(), module.clone(), path));
        }
    }
    uses
}

#[test]
fn use_goes_down_only() {
    let wrong: Vec<String> = uses()
        .iter()
        .filter(|(_, module, path)| !is_allowed(module, path))
        .map(|(file, module, path)| format!("{}: '{module}' uses '{path}'", file.display()))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_permission_is_used() {
    let uses = uses();
    let mut idle = Vec::new();
    for (module, may_use) in MAY_USE {
        for allowed in *may_use {
            let is_used =
                |(_, by, path): &(_, String, String)| by == module && is_inside(path, allowed);
            if !uses.iter().any(is_used) {
                idle.push(format!(
                    "'{module}' does not use '{allowed}', take it off its row"
                ));
            }
        }
    }
    assert!(idle.is_empty(), "\n{}", idle.join("\n"));
}

#[test]
fn the_table_itself_goes_down_only() {
    for (index, (module, may_use)) in MAY_USE.iter().enumerate() {
        for path in *may_use {
            let of = |name: &str| is_inside(path, name) || is_inside(name, path);
            let other = MAY_USE.iter().rposition(|(name, _)| of(name));
            assert!(other.is_some_and(|o| o > index), "{module} → {path}");
        }
    }
}

#[test]
fn what_json_prints_is_in_cli_output() {
    let mut found = Vec::new();
    for source in sources(&["src/cli"]) {
        let is_derived = source.code().any(|(_, line)| line.contains("Serialize"));
        let path = source.path.display().to_string();
        // Out::json takes whatever can be printed.
        let is_exempt = source.is_below("src/cli/output") || path == "src/cli/terminal.rs";
        if is_derived && !is_exempt {
            found.push(path);
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn unsafe_and_raw_descriptors_stay_in_sys() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "generators"]) {
        if source.is_below("src/sys") {
            continue;
        }
        for (number, line) in source.code() {
            for token in ONLY_IN_SYS.iter().filter(|token| line.contains(**token)) {
                wrong.push(format!("{}:{number}: '{token}'", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short_headed_and_named_for_their_module() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "generators", "tests"]) {
        let path = source.path.display();
        let mut lines = source.text.lines();
        if lines.next() != Some("// SPDX-License-Identifier: Apache-2.0") {
            wrong.push(format!("{path}: the first line is not the SPDX line"));
        }
        if !lines.next().is_some_and(|line| line.starts_with("//! ")) {
            wrong.push(format!(
                "{path}: the second line does not begin the '//!' header"
            ));
        }
        if source.path.file_name().unwrap() == "mod.rs" {
            wrong.push(format!("{path}: call it after its module"));
        }
        let count = source.text.lines().count();
        if count > FILE_MAX_LINES {
            wrong.push(format!("{path}: {count} lines, at most {FILE_MAX_LINES}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_parser_of_this_test_sees_every_form_of_use() {
    let text = "use crate::a::B;\nuse crate::{c, d::{e, f as g}};\nlet x = crate::h::i();\n\
                my_crate::no::x; use crate::j::{self, k};";
    let expected = [
        "a::B", "c", "d::e", "d::f", "as", "g", "h::i", "j::self", "j::k",
    ];
    let found = used(text, "crate::");
    for path in expected.iter().filter(|p| !["as", "g"].contains(*p)) {
        assert!(found.contains(*path), "{path} not in {found:?}");
    }
    assert!(
        !found.iter().any(|path| path.starts_with("no")),
        "{found:?}"
    );
    assert!(!is_allowed("generator", "journal::read"));
    assert!(is_allowed("generator", "journal::kmsg::Log"));
    assert!(!is_allowed("name", "paths"));
}
