// SPDX-License-Identifier: Apache-2.0
//! `wharf check`, `wharf cat` and `wharf schema`: the real binary on a directory tree.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = tree.0.path().join("etc/wharf/containers").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    fn wharf(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wharf"))
            .arg("--root")
            .arg(self.0.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// Status and standard output, without the tree's own path and the definition directory.
    fn run(&self, args: &[&str]) -> (i32, String) {
        let output = self.wharf(args);
        let text = String::from_utf8(output.stdout).unwrap();
        let dir = self.0.path().join("etc/wharf/containers");
        let text = text.replace(&format!("{}/", dir.display()), "");
        (output.status.code().unwrap(), text)
    }
}

#[test]
fn check_is_silent_about_what_is_right() {
    let tree = Tree::new(&[("a.toml", "image = 'x'")]);
    assert_eq!(tree.run(&["check"]), (0, String::new()));
    assert_eq!(tree.run(&["check", "a"]), (0, String::new()));
    let empty = Tree::new(&[]);
    assert_eq!(empty.run(&["check"]), (0, String::new()));
}

#[test]
fn check_prints_every_problem_of_every_file() {
    let tree = Tree::new(&[
        ("a.toml", "imge = 'x'\nuser = -1"),
        ("b.toml", "image = 'x'"),
        ("c.toml", "image = 'x'\ntty = 1"),
        ("b c.toml", ""),
        ("d.toml.d/x.toml", ""),
    ]);
    let (status, text) = tree.run(&["check"]);
    assert_eq!(status, 2);
    let starts: Vec<_> = text
        .lines()
        .map(|l| l.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        starts,
        [
            "b c.toml:1:1",
            "d.toml.d/x.toml:1:1",
            "a.toml:1:1",
            "a.toml:2:8",
            "c.toml:2:7"
        ]
    );
    assert_eq!(tree.run(&["check", "b"]), (0, String::new()));
    assert_eq!(
        tree.run(&["check", "c", "b"]),
        (2, "c.toml:2:7: tty: expected true or false\n".to_owned())
    );
    let (status, text) = tree.run(&["check", "nope"]);
    assert_eq!(status, 2);
    assert!(
        text.starts_with("nope.toml:1:1: container 'nope' is not defined, looked for "),
        "{text}"
    );
    assert_eq!(tree.run(&["check", "../x"]).0, 2);
}

#[test]
fn check_prints_json() {
    let tree = Tree::new(&[
        ("a.toml", "image = 'x'\n[log]\ndrivr = 'x'"),
        ("b.toml", "image = 'x'"),
    ]);
    let (status, text) = tree.run(&["check", "--json"]);
    assert_eq!(status, 2);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        report,
        serde_json::json!({
            "schema": 1,
            "checked": ["a", "b"],
            "definitions": [
                { "kind": "container", "name": "a" },
                { "kind": "container", "name": "b" },
            ],
            "problems": [{
                "file": "a.toml",
                "line": 3,
                "column": 1,
                "key": "log.drivr",
                "message": "unknown key 'log.drivr', did you mean 'log.driver'?",
            }],
        })
    );
}

/// Images are definitions like containers: the same errors, places, hints, origins.
#[test]
fn images_are_checked_and_shown_too() {
    let tree = Tree::new(&[
        ("web.toml", "image = 'x'"),
        ("../images/web.toml", "image = 'x'\nenabled = true"),
        ("../images/web.toml.d/a.toml", "platform = 'linux/arm64'"),
        ("../images/bad.toml", "imgae = \"x\""),
        ("../images/w@.toml", "image = 'x'"),
    ]);
    let slip = "../images/bad.toml:1:1: unknown key 'imgae', did you mean 'image'?\n";
    let slip = slip.replace("..", tree.0.path().join("etc/wharf").to_str().unwrap());
    let (status, text) = tree.run(&["check"]);
    assert_eq!(status, 2);
    assert!(text.contains(&slip), "{text}");
    assert!(
        text.contains("w@.toml:1:1: the file's name is not that of an image"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
    assert_eq!(tree.run(&["check", "image/bad"]), (2, slip));
    assert_eq!(
        tree.run(&["check", "image/web", "container/web", "web"]),
        (0, String::new())
    );
    assert_eq!(tree.run(&["check", "image/nope"]).0, 2);
    assert_eq!(tree.run(&["check", "imgae/web"]).0, 2);
    let (_, json) = tree.run(&["check", "--json", "web", "image/web"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["checked"], serde_json::json!(["web"]));
    assert_eq!(
        report["definitions"][1],
        serde_json::json!({ "kind": "image", "name": "web" })
    );
    let (status, shown) = tree.run(&["cat", "image/web"]);
    assert_eq!(status, 0);
    let line = shown
        .lines()
        .find(|line| line.starts_with("platform"))
        .unwrap();
    assert!(line.ends_with("images/web.toml.d/a.toml:1"), "{shown}");
    let (_, json) = tree.run(&["cat", "--json", "image/web"]);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(document["kind"], "image");
    assert_eq!(document["settings"].as_array().unwrap().len(), 3);
    let nothing = tree.wharf(&["cat", "image/nope"]);
    assert_eq!(nothing.status.code(), Some(5));
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert!(
        said.starts_with("wharf: image 'nope' is not defined"),
        "{said}"
    );
}

#[test]
fn every_kind_has_a_schema() {
    let schema = |args: &[&str]| {
        let output = Tree::new(&[]).wharf(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(
        schema(&["schema"]),
        schema(&["schema", "--kind", "container"])
    );
    let image = schema(&["schema", "--kind", "image"]);
    let right = serde_json::json!({ "image": "nginx:1", "pull_policy": "newer", "enabled": true });
    assert_eq!(mismatches(&image, &right, ""), Vec::<String>::new());
    let wrong = serde_json::json!({ "imgae": "x", "pull_policy": "maybe" });
    assert_eq!(mismatches(&image, &wrong, "").len(), 2);
    let output = Tree::new(&[]).wharf(&["schema", "--kind", "imgae"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there are container, image"), "{said}");
}

/// A mistake in a file that applies to many is printed once.
#[test]
fn check_does_not_repeat_itself() {
    let tree = Tree::new(&[
        ("a.toml", "image = 'x'"),
        ("b.toml", "image = 'x'"),
        ("container.toml.d/x.toml", "usr = 1"),
    ]);
    let (status, text) = tree.run(&["check"]);
    assert_eq!((status, text.lines().count()), (2, 1), "{text}");
}

#[test]
fn check_finds_cycles_and_undefined_dependencies() {
    let tree = Tree::new(&[
        ("a.toml", "image = 'x'\ndepends_on = ['b', 'd']"),
        ("b.toml", "depends_on = 'c'\nimage = 'x'"),
        ("c.toml", "image = 'x'"),
        ("c.toml.d/late.toml", "\n\ndepends_on = ['a', 't@x']"),
        ("d.toml", "image = 'x'\ndepends_on = ['e', 'nope']"),
        ("e.toml", "image = 'x'\ndepends_on = 'd'"),
        ("t@.toml", "image = 'x'"),
    ]);
    let (status, text) = tree.run(&["check"]);
    assert_eq!(status, 2);
    let abc = "depends_on: the containers wait for each other: a → b → c → a (see also ";
    let de = "depends_on: the containers wait for each other: d → e → d (see also ";
    assert_eq!(
        text,
        format!(
            "a.toml:2:1: {abc}b.toml:1, c.toml.d/late.toml:3)\n\
             b.toml:1:1: {abc}a.toml:2, c.toml.d/late.toml:3)\n\
             c.toml.d/late.toml:3:1: {abc}a.toml:2, b.toml:1)\n\
             d.toml:2:1: {de}e.toml:2)\n\
             e.toml:2:1: {de}d.toml:2)\n\
             d.toml:2:1: depends_on: container 'nope' is not defined\n"
        )
    );
    assert_eq!(tree.run(&["check", "t@x"]), (0, String::new()));
    assert_eq!(tree.run(&["check", "e"]).1.lines().count(), 2);
}

#[test]
fn cat_shows_origins_and_can_be_read_back() {
    let tree = Tree::new(&[
        (
            "t@.toml",
            "image = 'x:%i'\nlabels = ['a.b=1']\n[log]\nidentifier = 'i'\n[environment]\nA = \"x\\u001by\"\n\"\\u0007\" = ''",
        ),
        (
            "t@q.toml.d/x.toml",
            "\nuser = 5\nlog.identifier = 'j'\nunit.After = '%i.target'",
        ),
    ]);
    let (status, text) = tree.run(&["cat", "t@q"]);
    let problem = "# wrong: t@.toml:7:12: environment.\\u{7}: control character '\\u{7}' is not allowed here\n";
    assert_eq!(
        (status, text.as_str()),
        (
            1,
            format!(
                "{problem}\
                 # t@.toml\n\
                 # t@q.toml.d/x.toml\n\
                 image = \"x:q\" # t@.toml:1\n\
                 user = 5 # t@q.toml.d/x.toml:2\n\
                 \n[environment]\n\
                 \"\\u0007\" = \"\" # t@.toml:7\n\
                 A = \"x\\u001By\" # t@.toml:6\n\
                 \n[labels]\n\
                 \"a.b\" = \"1\" # t@.toml:2\n\
                 \n[unit]\n\
                 After = \"%i.target\" # t@q.toml.d/x.toml:4\n\
                 \n[log]\n\
                 identifier = \"j\" # t@q.toml.d/x.toml:3\n"
            )
            .as_str()
        )
    );
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["environment"]["\u{7}"].as_str(), Some(""));
    let (_, json) = tree.run(&["cat", "--json", "t@q"]);
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        document["sources"],
        serde_json::json!(["t@.toml", "t@q.toml.d/x.toml"])
    );
    let settings = document["settings"].as_array().unwrap();
    let user = serde_json::json!({
        "key": "user", "entry": null, "value": 5, "file": "t@q.toml.d/x.toml", "line": 2,
    });
    let label = serde_json::json!({
        "key": "labels", "entry": "a.b", "value": "1", "file": "t@.toml", "line": 2,
    });
    assert!(
        settings.contains(&user) && settings.contains(&label),
        "{settings:?}"
    );
    assert_eq!(document["problems"][0]["line"], 7);
}

#[test]
fn cat_of_the_example_of_every_key_means_the_same() {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/definition/good/all-keys.toml");
    let text = fs::read_to_string(source).unwrap();
    let first = Tree::new(&[("web.toml", &text)]);
    let (status, shown) = first.run(&["cat", "web"]);
    assert_eq!(status, 0);
    let again = Tree::new(&[("web.toml", &shown)]);
    let without_origins = |text: &str| {
        let table: toml::Table = text.parse().unwrap();
        table
    };
    let (status, shown_again) = again.run(&["cat", "web"]);
    assert_eq!(status, 0);
    assert_eq!(without_origins(&shown), without_origins(&shown_again));
}

#[test]
fn cat_of_nothing_has_its_own_status() {
    let tree = Tree::new(&[]);
    let output = tree.wharf(&["cat", "web"]);
    assert_eq!(output.status.code(), Some(5));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("wharf: container 'web' is not defined"),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1);
}

/// Definitions that are accepted match the schema's own idea of them, as far as `enum`, `type`
/// and `properties` go; editors would otherwise underline what is right.
#[test]
fn schema_is_json_and_knows_every_key_of_the_example() {
    let output = Tree::new(&[]).wharf(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/definition/good/all-keys.toml");
    let text = fs::read_to_string(source).unwrap();
    let example: toml::Table = text.parse().unwrap();
    let example = serde_json::to_value(example).unwrap();
    assert_eq!(mismatches(&schema, &example, ""), Vec::<String>::new());
    let wrong = serde_json::json!({ "imge": "x", "restart": "maybe", "log": { "driver": 5 } });
    assert_eq!(mismatches(&schema, &wrong, "").len(), 3);
}

/// The part of JSON Schema that our schema uses, but for patterns.
fn mismatches(schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(any) = schema["anyOf"].as_array() {
        if !any.iter().any(|one| mismatches(one, value, at).is_empty()) {
            found.push(format!("{at}: {value} matches none of {any:?}"));
        }
        return found;
    }
    let is_a = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    };
    let types = &schema["type"];
    let fits = match types.as_array() {
        Some(types) => types.iter().any(|name| is_a(name.as_str().unwrap())),
        None => types.as_str().is_none_or(is_a),
    };
    let listed = schema["enum"].as_array();
    if !fits || listed.is_some_and(|listed| !listed.contains(value)) {
        found.push(format!("{at}: {value} is not {schema}"));
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        let property = schema["properties"]
            .get(name)
            .or(schema.get("additionalProperties"));
        match property {
            Some(serde_json::Value::Bool(false)) => found.push(format!("{at}: unknown")),
            Some(property) => found.extend(mismatches(property, member, &at)),
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        found.extend(mismatches(&schema["items"], item, at));
    }
    found
}
