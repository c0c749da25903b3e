// SPDX-License-Identifier: Apache-2.0
//! Random input: no definition makes the loader panic, hang, or let through what could become a
//! second line of a unit file (threats C5, C11, U1, U2).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use wharf::definition::keys::Key;
use wharf::definition::kind::Kind as _;
use wharf::definition::load::{LoadError, load, load_all, load_effective};
use wharf::definition::{Definition, VolumeSource};
use wharf::paths::Paths;

/// Loads `text` as `web@i`, checks what must hold for any text, and returns the outcome.
fn load_text(tree: &Path, text: &[u8]) -> Result<Definition, LoadError> {
    let dir = tree.join("etc/wharf/containers");
    fs::create_dir_all(&dir).unwrap();
    fs::File::create(dir.join("web@i.toml"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, text))
        .unwrap();
    let paths = Paths::system(tree);
    let name = "web@i".parse().unwrap();
    let start = Instant::now();
    let loaded = load(&paths, &name);
    let elapsed = start.elapsed();
    // Seconds, since test machines are busy and test builds slow; a hang is minutes.
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    assert_eq!(load_all(&paths), [(name.clone(), loaded.clone())]);
    let effective = load_effective::<Definition>(&paths, &name).unwrap();
    match &loaded {
        Ok(definition) => {
            assert_eq!(effective.problems, []);
            check_lines(definition);
        }
        Err(err) => {
            assert!(!err.to_string().chars().any(char::is_control), "{err}");
            assert!(!effective.problems.is_empty());
        }
    }
    loaded
}

/// What reaches a unit file is on one line.
fn check_lines(definition: &Definition) {
    let Definition {
        description,
        hostname,
        storage,
        log,
        passthrough,
        ..
    } = definition;
    let directives = [
        &passthrough.unit,
        &passthrough.service,
        &passthrough.install,
    ];
    let directives = directives.into_iter().flatten().flat_map(|(name, values)| {
        let name = std::iter::once(name.clone());
        name.chain(values.iter().cloned())
    });
    let sources = storage.volumes.iter().filter_map(|v| match &v.source {
        VolumeSource::Bind(path) => Some(path.to_str().unwrap().to_owned()),
        VolumeSource::Named(name) => Some(name.clone()),
        VolumeSource::Anonymous => None,
    });
    let lines = directives
        .chain(sources)
        .chain(description.clone())
        .chain(hostname.clone())
        .chain(log.identifier.clone());
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    for line in description.iter().chain(&log.identifier) {
        assert!(!line.ends_with('\\'), "{line:?}");
    }
    for values in passthrough
        .service
        .values()
        .chain(passthrough.unit.values())
    {
        assert!(!values.iter().any(|value| value.ends_with('\\')));
    }
}

fn key() -> impl Strategy<Value = &'static Key<Definition>> {
    select(Definition::all_keys().collect::<Vec<_>>())
}

/// Strings with what is special to somebody: systemd, TOML, shells, terminals.
fn hostile_text() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "/",
        ":",
        "\n",
        "\r",
        "\0",
        "\\",
        "%",
        "%i",
        "%%i",
        "$",
        "'",
        "\"",
        "..",
        "=",
        ",",
        "@",
        " ",
        "\u{1b}",
        "\u{2028}",
        "é",
        "-",
        "+",
        "0",
        "1",
        "9",
        "4294967296",
        "99999999999999999999",
        "SIG",
        "RTMIN",
        "ALL",
        "infinity",
        "s",
        "min",
        "M",
        "ro",
        "net.",
        "/dev/",
        "service",
    ];
    vec(select(pieces.to_vec()), 0..6).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = toml::Value> {
    let leaf = prop_oneof![
        4 => hostile_text().prop_map(toml::Value::String),
        1 => any::<i64>().prop_map(toml::Value::Integer),
        1 => (-2i64..12).prop_map(toml::Value::Integer),
        1 => any::<f64>().prop_map(toml::Value::Float),
        1 => any::<bool>().prop_map(toml::Value::Boolean),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let name = prop_oneof![
            hostile_text(),
            select(vec![
                "path", "args", "env", "timeout", "soft", "hard", "nofile", "Nice"
            ])
            .prop_map(str::to_owned)
        ];
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(toml::Value::Array),
            vec((name, inner), 0..4)
                .prop_map(|entries| toml::Value::Table(entries.into_iter().collect())),
        ]
    })
}

fn document() -> impl Strategy<Value = String> {
    vec((key(), value()), 1..8).prop_map(|settings| {
        let mut text = String::from("image = 'x'\n");
        for (key, value) in settings {
            writeln!(text, "{} = {}", key.path(), Inline(&value)).unwrap();
        }
        text
    })
}

/// A value on one line: the TOML writer would make tables of nested ones.
struct Inline<'v>(&'v toml::Value);

impl std::fmt::Display for Inline<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            toml::Value::String(text) => write_string(f, text),
            toml::Value::Array(items) => {
                f.write_str("[")?;
                for item in items {
                    write!(f, "{}, ", Inline(item))?;
                }
                f.write_str("]")
            }
            toml::Value::Table(table) => {
                f.write_str("{")?;
                for (index, (key, item)) in table.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { ", " })?;
                    write_string(f, key)?;
                    write!(f, " = {}", Inline(item))?;
                }
                f.write_str("}")
            }
            other => write!(f, "{other}"),
        }
    }
}

fn write_string(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_an_error_or_a_definition(bytes in vec(any::<u8>(), 0..200)) {
        let tree = tempfile::tempdir().unwrap();
        drop(load_text(tree.path(), &bytes));
    }

    #[test]
    fn random_almost_toml(text in "([a-z_.]{1,9}|[\\[\\]{}='\"#,.\\\\ \n\r\t]|[0-9+-]){0,60}") {
        let tree = tempfile::tempdir().unwrap();
        drop(load_text(tree.path(), text.as_bytes()));
    }

    #[test]
    fn random_values_of_known_keys(text in document()) {
        let tree = tempfile::tempdir().unwrap();
        drop(load_text(tree.path(), text.as_bytes()));
    }

    #[test]
    fn cut_definitions(cut in 0usize..3000, noise in prop_oneof![Just(""), Just("\""), Just("\n["), Just("\u{7f}")]) {
        let good = include_str!("../../cases/definition/good/all-keys.toml");
        let mut cut = cut.min(good.len());
        while !good.is_char_boundary(cut) {
            cut -= 1;
        }
        let text = format!("{}{noise}{}", &good[..cut], &good[cut..]);
        let tree = tempfile::tempdir().unwrap();
        drop(load_text(tree.path(), text.as_bytes()));
        drop(load_text(tree.path(), &good.as_bytes()[..cut]));
    }
}

/// The random documents must not all be refused for one dull reason.
#[test]
fn one_of_every_key_at_a_time_is_accepted() {
    let all = include_str!("../../cases/definition/good/all-keys.toml");
    let table: toml::Table = all.parse().unwrap();
    for (name, value) in &table {
        if matches!(name.as_str(), "image" | "description") {
            continue;
        }
        let text = format!("image = 'x'\n{name} = {}\n", Inline(value));
        let tree = tempfile::tempdir().unwrap();
        let loaded = load_text(tree.path(), text.as_bytes());
        assert!(loaded.is_ok(), "{text}: {loaded:?}");
    }
}

/// The worst that fits into a file, each within seconds (threats C8, C11).
#[test]
fn large_files_end_soon() {
    let mut texts = vec![
        "x".repeat(1 << 20),
        "[".repeat(1 << 20),
        "a.".repeat(500_000),
        "\n".repeat(1 << 20),
        format!("image = 'x'\ncommand = [{}]", "'a',".repeat(200_000)),
        format!("image = 'x'\nvolumes = [{}]", "'a',".repeat(200_000)),
        format!("image = 'x'\nvolumes = [{}]", "'a',\n".repeat(150_000)),
        format!("image = \"{}\"", "\\u001b".repeat(150_000)),
        format!("image = 'x'\ncommand = '{}'", "\" ".repeat(500_000)),
        format!("image = '{}'", "%i".repeat(500_000)),
    ];
    for line in [
        "k{} = 1\n",
        "environment.k{} = 1\n",
        "[k{}]\n",
        "labels.'{}' = []\n",
    ] {
        let mut text = String::new();
        for index in 0.. {
            let next = line.replace("{}", &index.to_string());
            if text.len() + next.len() > 1 << 20 {
                break;
            }
            text.push_str(&next);
        }
        texts.push(text);
    }
    for text in texts {
        let tree = tempfile::tempdir().unwrap();
        let loaded = load_text(tree.path(), text.as_bytes());
        let begin: String = text.chars().take(40).collect();
        assert!(loaded.is_err(), "{begin}");
        let message = loaded.unwrap_err().to_string();
        assert!(message.len() < 1000, "{begin}: {message}");
    }
}
