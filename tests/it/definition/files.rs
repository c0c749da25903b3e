// SPDX-License-Identifier: Apache-2.0
//! Definitions as files: `definition/bad/NAME.toml` must give the problems in `NAME.expected`,
//! `definition/good/NAME.toml` the definition in the file's own last lines, those that begin with `#=`: what
//! differs from a definition in which nothing is set, so that a new key changes none of them.
//! UPDATE_EXPECT=1 rewrites what is expected.
//!
//! And for every kind of definition: key table, JSON Schema, manual and the defaults of the parsed
//! definition say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use wharf::definition::Definition;
use wharf::definition::keys::Takes;
use wharf::definition::kind::Kind;
use wharf::definition::kinds::image::ImageDefinition;
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
    match load::<Definition>(&paths, &"web".parse().unwrap()) {
        Ok(mut definition) => {
            let origins = std::mem::take(&mut definition.origins);
            let origins: Vec<_> = origins
                .iter()
                .map(|origin| match origin.table {
                    "" => format!("{}:{}", origin.name, origin.line),
                    table => format!("{table}.{}:{}", origin.name, origin.line),
                })
                .collect();
            let differences = differences(&Definition::blank(&definition.name), &definition);
            let set_at = origins.join(" ");
            Ok(clean(&format!("{differences}set at: {set_at}\n")))
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

/// Fields of the second value that are not as in the first, those of structs in it one by one.
fn differences(blank: &impl std::fmt::Debug, value: &impl std::fmt::Debug) -> String {
    fn compare(path: &str, blank: &str, value: &str, out: &mut String) {
        let was = fields(blank);
        for (name, block) in fields(value) {
            let path = format!("{path}{name}");
            match was.iter().find(|(other, _)| *other == name) {
                Some((_, same)) if *same == block => {}
                // A struct, and not one inside of something.
                Some((_, other)) if is_struct(&block) && is_struct(other) => {
                    compare(&format!("{path}."), other, &block, out);
                }
                _ => *out += &format!("{path}: {block}\n"),
            }
        }
    }
    let mut out = String::new();
    compare("", &format!("{blank:#?}"), &format!("{value:#?}"), &mut out);
    out
}

/// Whether a value is printed as `Name {`.
fn is_struct(block: &str) -> bool {
    block.ends_with(" {\n}")
        || block
            .lines()
            .next()
            .is_some_and(|line| line.ends_with(" {"))
}

/// The fields of a struct as `{:#?}` prints it, each with its value.
fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().skip(1) {
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        match line.split_once(": ") {
            Some((name, value)) if !line.starts_with([' ', '}', ']', ')']) => {
                fields.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                if let Some((_, value)) = fields.last_mut() {
                    *value += &format!("\n{line}");
                }
            }
        }
    }
    for (_, value) in &mut fields {
        *value = value.trim_end_matches(',').to_owned();
    }
    fields
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

/// Compares with the last lines of `input`, or rewrites them; returns what differs.
fn compare_within(input: &Path, actual: &str) -> Option<String> {
    const MARK: &str = "#= ";
    let text = sys::fs::read_to_string(input).unwrap();
    let (definition, expected): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| !line.starts_with(MARK));
    let expected: String = expected
        .iter()
        .flat_map(|line| [&line[MARK.len()..], "\n"])
        .collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        let definition = definition.iter().flat_map(|line| [line, "\n"]);
        let told = actual.lines().flat_map(|line| [MARK, line, "\n"]);
        let text: String = definition.chain(told).collect();
        sys::fs::write_atomic(input, text.as_bytes(), 0o644, Durability::Memory).unwrap();
        return None;
    }
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
            Ok(definition) => differences.extend(compare_within(&file, &definition)),
            Err(problems) => differences.push(format!("{}: {problems}", file.display())),
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn keys_of_the_table<D: Kind>() -> BTreeSet<String> {
    D::all_keys().map(|key| key.path()).collect()
}

fn schema_has_the_same_keys<D: Kind>() {
    let schema = wharf::definition::schema::render_schema::<D>();
    assert_eq!(schema["title"], D::INFO.manual);
    let mut found = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        if D::INFO.tables.contains(&name.as_str()) {
            for (member, property) in property["properties"].as_object().unwrap() {
                found.insert(format!("{name}.{member}"));
                assert!(property["description"].is_string(), "{name}.{member}");
            }
        } else {
            found.insert(name.clone());
            assert!(property["description"].is_string(), "{name}");
        }
    }
    assert_eq!(found, keys_of_the_table::<D>());
}

#[test]
fn the_schema_has_the_same_keys() {
    schema_has_the_same_keys::<Definition>();
    schema_has_the_same_keys::<ImageDefinition>();
}

/// The manual page of a kind.
fn manual<D: Kind>() -> String {
    let page = D::INFO.manual.replace('(', ".").replace(')', "");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("man/{page}.md"));
    sys::fs::read_to_string(&file).unwrap()
}

/// Text of a manual page without its markup, up to the end of the sentence or a colon.
fn plain(text: &str) -> String {
    let text = text.replace(['`', '*', '"'], "").replace("\\", "");
    let end = [". ", ": ", "; ", " ("]
        .into_iter()
        .filter_map(|end| text.find(end));
    let end = end.min().unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// The manual has one term `KEY=` for each key, below a heading for its table, with the default of
/// the key table.
fn manual_has_the_same_keys_and_defaults<D: Kind>() {
    let text = manual::<D>();
    let mut table = "";
    let mut found = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("# ") {
            let is_it = |table: &&&str| heading == format!("[{}] SECTION", table.to_uppercase());
            table = D::INFO.tables.iter().find(is_it).unwrap_or(&"");
        }
        let Some(name) = line.strip_prefix('`').and_then(|l| l.strip_suffix("=`")) else {
            continue;
        };
        let key = D::find_key(table, name).unwrap_or_else(|| panic!("[{table}] {name}"));
        let details: Vec<_> = std::iter::from_fn(|| {
            lines.next_if(|line| line.starts_with(":   ") || line.starts_with("    "))
        })
        .map(str::trim)
        .collect();
        let details = details.join(" ");
        assert!(details.starts_with(":   Sets "), "{name}: {details}");
        assert!(details.contains(" Takes "), "{name}: {details}");
        let (_, default) = details.split_once(" Defaults to ").expect(name);
        let (table, manual) = (key.default.replace(';', "."), plain(default));
        if !manual.starts_with(&plain(&table)) {
            wrong.push(format!("{}: '{table}' and '{manual}'", key.path()));
        }
        assert!(found.insert(key.path()), "[{table}] {name} is there twice");
    }
    assert_eq!(found, keys_of_the_table::<D>());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_manual_has_the_same_keys_and_defaults() {
    manual_has_the_same_keys_and_defaults::<Definition>();
    manual_has_the_same_keys_and_defaults::<ImageDefinition>();
}

/// Loads a definition of one file that begins with `image`; none if it is not valid.
fn load_text<D: Kind>(text: &str) -> Option<D> {
    let tree = tempfile::tempdir().unwrap();
    let dir = tree.path().join("etc/wharf").join(D::INFO.directory());
    fs::create_dir_all(&dir).unwrap();
    let text = format!("image = 'x'\n{text}");
    sys::fs::write_atomic(
        &dir.join("web.toml"),
        text.as_bytes(),
        0o644,
        Durability::Memory,
    )
    .unwrap();
    let mut definition: D = load(&Paths::system(tree.path()), &"web".parse().unwrap()).ok()?;
    definition.set_origins(Vec::new(), Vec::new());
    Some(definition)
}

/// Writing down a default that can be written changes nothing. Returns how many were.
fn defaults_are_those_of_the_definition<D: Kind + std::fmt::Debug>() -> usize {
    let unset: D = load_text("").unwrap();
    let mut compared = 0;
    for key in D::all_keys() {
        let word = key.default.split([',', ';']).next().unwrap();
        let value = match key.takes {
            Takes::Bool(_) => word.to_owned(),
            Takes::Choice(..) => format!("'{word}'"),
            Takes::Integer { .. } if word.parse::<i64>().is_ok() => word.to_owned(),
            Takes::Text(..) | Takes::Scalar(..) | Takes::Reload(..) => format!("\"{word}\""),
            _ => continue,
        };
        let table = match key.table {
            "" => String::new(),
            table => format!("[{table}]\n"),
        };
        let text = format!("{table}{} = {value}\n", key.name);
        let is_certain = matches!(
            key.takes,
            Takes::Bool(_) | Takes::Choice(..) | Takes::Integer { .. }
        );
        // "none" and "the image's" are no values, but some strings of theirs are.
        let is_prose = word.contains(' ') || word.contains('(') || word == "none" || word == "all";
        match load_text::<D>(&text) {
            Some(set) if is_certain || !is_prose => {
                let differences = differences(&unset, &set);
                // What systemd does without a word may be written down too, as that word.
                let of_systemd = ["SIGTERM", "100ms", "100", "6", "5", "10s"].contains(&word);
                assert!(differences.is_empty() || of_systemd, "{text}{differences}");
                compared += 1;
            }
            Some(_) => {}
            None => assert!(!is_certain, "{text} is not valid"),
        }
    }
    compared
}

#[test]
fn the_defaults_of_the_key_table_are_those_of_the_definition() {
    assert!(defaults_are_those_of_the_definition::<Definition>() >= 20);
    assert_eq!(defaults_are_those_of_the_definition::<ImageDefinition>(), 2);
}

#[test]
fn the_example_of_every_key_has_every_key() {
    let file = directory("good").join("all-keys.toml");
    let text = sys::fs::read_to_string(&file).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut found = BTreeSet::new();
    for (name, value) in &table {
        match value {
            toml::Value::Table(members) if Definition::INFO.tables.contains(&name.as_str()) => {
                found.extend(members.keys().map(|member| format!("{name}.{member}")));
            }
            _ => {
                found.insert(name.clone());
            }
        }
    }
    let mut expected = keys_of_the_table::<Definition>();
    expected.remove("rootfs"); // one of image and rootfs
    assert_eq!(found, expected);
}

/// The indented blocks below EXAMPLES are definitions, or drop-ins if they name no image.
#[test]
fn the_examples_of_the_manual_are_valid() {
    let text = manual::<Definition>();
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
