// SPDX-License-Identifier: Apache-2.0
//! Records that older versions of wharf wrote: `cases/records/COMMIT/` has what that version really
//! left of containers that ran under it, as it lies below /run/wharf and /var/lib/wharf.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use wharf::name::ContainerName;
use wharf::paths::Paths;
use wharf::records::history;
use wharf::records::run::{self, Recorded, RunRecord};

/// Fields without which nobody knows which process a record is about.
const NEEDED: [&str; 8] = [
    "version",
    "name",
    "id",
    "pid",
    "pid_start_ticks",
    "runtime",
    "image",
    "payload_cgroup",
];

fn versions() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/records");
    let versions: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!versions.is_empty());
    versions
}

/// The containers of `what` (`bundles`, `containers`) with the file that each has.
fn records(version: &Path, what: &str, file: &str) -> Vec<(ContainerName, String)> {
    let found: Vec<_> = fs::read_dir(version.join(what))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().to_str().unwrap().parse().unwrap();
            (name, fs::read_to_string(entry.path().join(file)).unwrap())
        })
        .collect();
    assert!(found.len() >= 5, "{version:?} {what}");
    found
}

/// The record as it is read from `text`.
fn read(name: &ContainerName, text: &str) -> Recorded {
    let root = tempfile::tempdir().unwrap();
    let paths = Paths::system(root.path());
    let dir = paths.container_runtime(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("state.json"), text).unwrap();
    run::read(&paths, name)
}

fn known(name: &ContainerName, text: &str) -> RunRecord {
    match read(name, text) {
        Recorded::Known(record) => *record,
        other => panic!("{name}: {other:?}"),
    }
}

/// Every field that was written is read with its value.
#[track_caller]
fn assert_within(written: &Value, read: &Value) {
    for (key, value) in written.as_object().unwrap() {
        assert_eq!(read.get(key), Some(value), "{key}");
    }
}

#[test]
fn run_records_of_older_versions_are_read_whole() {
    for version in versions() {
        for (name, text) in records(&version, "bundles", "state.json") {
            let record = known(&name, &text);
            let written: Value = serde_json::from_str(&text).unwrap();
            assert_within(&written, &serde_json::to_value(&record).unwrap());
        }
    }
}

#[test]
fn exit_histories_of_older_versions_are_read_whole() {
    for version in versions() {
        for (name, text) in records(&version, "containers", "history.jsonl") {
            let root = tempfile::tempdir().unwrap();
            let paths = Paths::system(root.path());
            fs::create_dir_all(paths.container_state(&name)).unwrap();
            fs::write(paths.container_state(&name).join("history.jsonl"), &text).unwrap();
            let entries = history::load(&paths, &name).unwrap();
            assert_eq!(entries.len(), text.lines().count(), "{name}");
            for (line, entry) in text.lines().zip(&entries) {
                let written: Value = serde_json::from_str(line).unwrap();
                assert_within(&written, &serde_json::to_value(entry).unwrap());
            }
            assert_eq!(
                history::last(&paths, &name).unwrap(),
                entries.last().cloned()
            );
        }
    }
}

/// What a newer version adds, at every level, is passed over: a downgrade works too.
#[test]
fn fields_of_newer_versions_are_passed_over() {
    fn add(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // The words of an enum are keys too, and one more of them would be another meaning.
                if fields.len() > 1 {
                    fields.insert("from_the_future".to_owned(), json!({ "deep": [1, null] }));
                }
                fields.values_mut().for_each(add);
            }
            Value::Array(items) => items.iter_mut().for_each(add),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    for version in versions() {
        for (name, text) in records(&version, "bundles", "state.json") {
            let mut newer: Value = serde_json::from_str(&text).unwrap();
            add(&mut newer);
            // A Duration of the standard library takes no other field; it will never get one.
            for hook in newer["poststop"].as_array_mut().unwrap() {
                hook["timeout"]
                    .as_object_mut()
                    .unwrap()
                    .remove("from_the_future");
            }
            assert_eq!(
                known(&name, &newer.to_string()),
                known(&name, &text),
                "{name}"
            );
        }
    }
}

/// Every field that is not needed to find the process may be missing, alone or with all the others.
#[test]
fn records_without_a_field_are_read_if_they_name_the_process() {
    for version in versions() {
        for (name, text) in records(&version, "bundles", "state.json") {
            let whole: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let mut least = whole.clone();
            for key in whole.keys() {
                let mut without = whole.clone();
                without.remove(key);
                let read = read(&name, &Value::Object(without).to_string());
                let needed = NEEDED.contains(&key.as_str());
                assert_eq!(read.known().is_none(), needed, "{name}: {key}");
                assert!(read.exists());
                if !needed {
                    least.remove(key);
                }
            }
            let least = known(&name, &Value::Object(least).to_string());
            assert_eq!(
                (least.stop_signal.as_str(), least.stderr_priority),
                ("SIGTERM", 6)
            );
            assert_eq!(least.identifier(), name.as_str());
        }
    }
}

/// Whatever a record that is damaged or of another kind says, that there is one is known.
#[test]
fn k8_damaged_records_are_unreadable_and_never_absent() {
    let name: ContainerName = "web".parse().unwrap();
    let version = versions().remove(0);
    let text = fs::read_to_string(version.join("bundles/web/state.json")).unwrap();
    let root = tempfile::tempdir().unwrap();
    assert_eq!(
        run::read(&Paths::system(root.path()), &name),
        Recorded::Absent
    );
    for end in 0..text.trim_end().len() {
        if text.is_char_boundary(end) {
            assert_eq!(read(&name, &text[..end]), Recorded::Unreadable, "{end}");
        }
    }
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"name\": \"web\"", "\"name\": \"other\""),
        ("\"name\": \"web\"", "\"name\": \"../../etc\""),
        ("\"pid\": ", "\"pid\": \"x\", \"was\": "),
    ] {
        assert!(text.contains(from), "{from}");
        assert_eq!(
            read(&name, &text.replace(from, to)),
            Recorded::Unreadable,
            "{to}"
        );
    }
}
