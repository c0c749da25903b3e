// SPDX-License-Identifier: Apache-2.0
//! Definitions as files: `definition/bad/NAME.toml` must give the problems in `NAME.expected`,
//! `definition/good/NAME.toml` the definition in `NAME.expected`. UPDATE_EXPECT=1 rewrites them.
//!
//! One file of each key is there too, to compare the key table, the JSON Schema and the manual.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wharf::definition::keys;
use wharf::definition::load::{LoadError, load};
use wharf::paths::Paths;
use wharf::sys;
use wharf::sys::fs::Durability;

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases/definition")
        .join(name)
}

fn definitions_in(name: &str) -> Vec<PathBuf> {
    let dir = directory(name);
    let names = sys::fs::list_dir(&dir).unwrap();
    let paths = names.iter().map(|name| dir.join(name));
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect()
}

/// Loads the file as container `web` of a tree of its own; paths of the tree become `/`.
fn load_as_web(file: &Path) -> Result<String, String> {
    let tree = tempfile::tempdir().unwrap();
    let dir = tree.path().join("etc/wharf/containers");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(file, dir.join("web.toml")).unwrap();
    let paths = Paths::system(tree.path());
    let clean = |text: &str| text.replace(tree.path().to_str().unwrap(), "");
    match load(&paths, &"web".parse().unwrap()) {
        Ok(definition) => {
            let origins: Vec<_> = definition
                .origins
                .iter()
                .map(|origin| format!("{}:{}", origin.key.path(), origin.line))
                .collect();
            let mut definition = definition;
            definition.origins = Vec::new();
            Ok(clean(&format!(
                "{definition:#?}\nset at: {}\n",
                origins.join(" ")
            )))
        }
        Err(err) => {
            let status = err.to_string();
            assert!(!status.chars().any(char::is_control), "{file:?}: {status}");
            let LoadError::Invalid { problems, .. } = &err else {
                panic!("{file:?}: {err:?}");
            };
            assert!(!problems.is_empty(), "{file:?}");
            let lines: Vec<_> = problems.iter().map(|p| format!("{p}\n")).collect();
            for line in &lines {
                let text = line.trim_end_matches('\n');
                assert!(!text.chars().any(char::is_control), "{file:?}: {line:?}");
                assert!(text.len() < 400, "{file:?}: {line}");
            }
            Err(clean(&lines.concat()))
        }
    }
}

/// Compares with the file beside `input`, or rewrites it; returns what differs.
fn compare(input: &Path, actual: &str) -> Option<String> {
    let expected_file = input.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        sys::fs::write_atomic(&expected_file, actual.as_bytes(), 0o644, Durability::Memory)
            .unwrap();
    }
    let expected = sys::fs::read_to_string(&expected_file).unwrap_or_default();
    (expected != actual).then(|| {
        let diff = similar::TextDiff::from_lines(expected.as_str(), actual);
        format!("{}:\n{}", input.display(), diff.unified_diff())
    })
}

#[test]
fn bad_definitions_say_what_is_wrong() {
    let files = definitions_in("bad");
    assert!(files.len() >= 60, "{}", files.len());
    let mut differences = Vec::new();
    for file in files {
        match load_as_web(&file) {
            Ok(_) => differences.push(format!("{}: is accepted", file.display())),
            Err(problems) => differences.extend(compare(&file, &problems)),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn good_definitions_mean_what_they_say() {
    let mut differences = Vec::new();
    for file in definitions_in("good") {
        match load_as_web(&file) {
            Ok(definition) => differences.extend(compare(&file, &definition)),
            Err(problems) => differences.push(format!("{}: {problems}", file.display())),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn keys_of_the_table() -> BTreeSet<String> {
    keys::all().map(keys::Key::path).collect()
}

#[test]
fn the_schema_has_the_same_keys() {
    let schema = wharf::definition::schema::render_schema();
    let mut found = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        if keys::TABLES.contains(&name.as_str()) {
            for (member, property) in property["properties"].as_object().unwrap() {
                found.insert(format!("{name}.{member}"));
                assert!(property["description"].is_string(), "{name}.{member}");
            }
        } else {
            found.insert(name.clone());
            assert!(property["description"].is_string(), "{name}");
        }
    }
    assert_eq!(found, keys_of_the_table());
}

/// The manual has one term `KEY=` for each key, below a heading for its table.
#[test]
fn the_manual_has_the_same_keys_and_defaults() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wharf-container.5.md");
    let text = sys::fs::read_to_string(&manual).unwrap();
    let mut table = "";
    let mut found = BTreeSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# IMAGES THAT ARE PULLED IN ADVANCE" {
            // Another file, with keys of its own.
            lines.by_ref().find(|line| *line == "# FILES").unwrap();
        }
        if let Some(heading) = line.strip_prefix("# ") {
            table = keys::TABLES
                .into_iter()
                .find(|table| heading == format!("[{}] SECTION", table.to_uppercase()))
                .unwrap_or("");
        }
        if let Some(name) = line.strip_prefix('`').and_then(|l| l.strip_suffix("=`")) {
            let key = keys::find(table, name);
            assert!(key.is_some(), "[{table}] {name} is not a key");
            let details: Vec<_> = std::iter::from_fn(|| {
                lines.next_if(|line| line.starts_with(":   ") || line.starts_with("    "))
            })
            .map(str::trim)
            .collect();
            let details = details.join(" ");
            assert!(
                details.starts_with(":   Sets "),
                "[{table}] {name}: {details}"
            );
            assert!(details.contains(" Takes "), "[{table}] {name}: {details}");
            assert!(
                details.contains(" Defaults to "),
                "[{table}] {name}: {details}"
            );
            let unique = found.insert(key.unwrap().path());
            assert!(unique, "[{table}] {name} is there twice");
        }
    }
    assert_eq!(found, keys_of_the_table());
}

#[test]
fn the_example_of_every_key_has_every_key() {
    let file = directory("good").join("all-keys.toml");
    let text = sys::fs::read_to_string(&file).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut found = BTreeSet::new();
    for (name, value) in &table {
        match value {
            toml::Value::Table(members) if keys::TABLES.contains(&name.as_str()) => {
                found.extend(members.keys().map(|member| format!("{name}.{member}")));
            }
            _ => {
                found.insert(name.clone());
            }
        }
    }
    let mut expected = keys_of_the_table();
    expected.remove("rootfs"); // one of image and rootfs
    assert_eq!(found, expected);
}

/// The indented blocks below EXAMPLES are definitions, or drop-ins if they name no image.
#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/wharf-container.5.md");
    let text = sys::fs::read_to_string(&manual).unwrap();
    let examples = text.split("\n# EXAMPLES\n").nth(1).unwrap();
    let examples = examples.split("\n# ").next().unwrap();
    let mut blocks = vec![String::new()];
    for line in examples.lines() {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().unwrap().extend([code, "\n"]),
            None if line.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        // One of them is a template.
        let block = block.replace("%i", "blue");
        let base = if block.contains("image = ") {
            block
        } else {
            format!("image = 'x'\n{block}")
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("example.toml");
        sys::fs::write_atomic(&file, base.as_bytes(), 0o644, Durability::Memory).unwrap();
        let loaded = load_as_web(&file);
        assert!(loaded.is_ok(), "{base}: {loaded:?}");
    }
}
