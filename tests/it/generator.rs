// SPDX-License-Identifier: Apache-2.0
//! The generator on directory trees: tests/cases/generator/NN-what/{etc,usr,run,home} → expected/.
//!
//! Each case is a root directory; one with `home/` is a user manager's. `expected/` holds the
//! normal directory as the generator leaves it, links included, and `stderr` with its messages.
//! `UPDATE_EXPECT=1` rewrites it; look at the difference before you commit that. A new case needs
//! no code. The same trees are put before `systemd-analyze verify` in tests/lab/generator.rs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use wharf::generator::{self, OutputDirs};
use wharf::paths::Paths;
use wharf::sys::command::Command;

/// Path below the output directory → content, or `-> target` of a link.
type Tree = BTreeMap<PathBuf, String>;

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/generator");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 15, "{} cases", cases.len());
    cases
}

fn paths(root: &Path) -> Paths {
    let home = root.join("home");
    if home.exists() {
        let (config, data) = (home.join(".config"), home.join(".local/share"));
        Paths::user(root, &config, &root.join("run/user/1000"), &data)
    } else {
        Paths::system(root)
    }
}

/// What the generator makes of the tree below `root`, with `root` itself cut out of every text.
fn generate(root: &Path) -> Tree {
    let output = tempfile::tempdir().unwrap();
    let normal = output.path().join("normal");
    let dirs = OutputDirs {
        normal: normal.clone(),
    };
    let summary = generator::run(&paths(root), &dirs);
    let mut tree = read_tree(&normal);
    let mut messages = String::new();
    for (severity, text) in summary.messages {
        writeln!(messages, "{severity:?}: {text}").unwrap();
    }
    tree.insert("stderr".into(), messages);
    let root = root.to_str().unwrap();
    for text in tree.values_mut() {
        *text = text.replace(root, "");
    }
    tree
}

fn read_tree(top: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut open = vec![top.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                open.push(path);
                continue;
            }
            let text = if kind.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                String::from_utf8(fs::read(&path).unwrap()).unwrap()
            };
            tree.insert(path.strip_prefix(top).unwrap().to_owned(), text);
        }
    }
    tree
}

fn write_tree(top: &Path, tree: &Tree) {
    if top.exists() {
        fs::remove_dir_all(top).unwrap();
    }
    for (path, text) in tree {
        let path = top.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => symlink(target, path).unwrap(),
            None => write(&path, text),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own file")]
fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn difference(expected: &Tree, found: &Tree) -> String {
    let mut text = String::new();
    let all: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for path in all {
        let side = |tree: &Tree| tree.get(path).cloned().unwrap_or_default();
        let (old, new) = (side(expected), side(found));
        if expected.get(path) != found.get(path) {
            let diff = similar::TextDiff::from_lines(&old, &new);
            let name = path.display().to_string();
            let diff = diff.unified_diff().header(&name, &name).to_string();
            writeln!(text, "{diff}").unwrap();
        }
    }
    text
}

#[test]
fn every_case_gives_what_is_expected() {
    let mut wrong = String::new();
    for case in cases() {
        let found = generate(&case);
        let expected_dir = case.join("expected");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            write_tree(&expected_dir, &found);
        }
        let expected = read_tree(&expected_dir);
        if expected != found {
            let name = case.file_name().unwrap().display();
            let diff = difference(&expected, &found);
            writeln!(wrong, "case {name}:\n{diff}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Equal input, equal bytes, also over what an earlier run left (threats U9).
#[test]
fn u9_a_second_run_changes_nothing() {
    for case in cases() {
        let output = tempfile::tempdir().unwrap();
        let normal = output.path().to_owned();
        let dirs = OutputDirs { normal };
        let first = generator::run(&paths(&case), &dirs);
        let tree = read_tree(output.path());
        assert_eq!(first, generator::run(&paths(&case), &dirs), "{case:?}");
        assert_eq!(tree, read_tree(output.path()), "{case:?}");
    }
}

/// A shorter file replaces a longer one whole (threats U10).
#[test]
fn u10_nothing_of_a_longer_drop_in_stays() {
    let root = tempfile::tempdir().unwrap();
    let definition = root.path().join("etc/wharf/containers/web.toml");
    let drop_in = Path::new("ctr@web.service.d/50-wharf.conf");
    let output = tempfile::tempdir().unwrap();
    let dirs = OutputDirs {
        normal: output.path().to_owned(),
    };
    for description in ["x".repeat(4_000), "y".to_owned()] {
        let text = format!("image = \"i\"\ndescription = \"{description}\"\n");
        write(&definition, text);
        generator::run(&paths(root.path()), &dirs);
        let text = read_tree(output.path()).remove(drop_in).unwrap();
        assert!(
            text.ends_with(&format!("\nDescription={description}\n")),
            "{text}"
        );
    }
}

/// Runs at the same time, as two daemon-reloads of two managers may be, leave whole files (threats U9).
#[test]
fn u9_concurrent_runs_leave_whole_files() {
    let case = cases()
        .into_iter()
        .find(|c| c.ends_with("02-every-key"))
        .unwrap();
    let alone = tempfile::tempdir().unwrap();
    let together = tempfile::tempdir().unwrap();
    let run = |dir: &Path| {
        let normal = dir.to_owned();
        generator::run(&paths(&case), &OutputDirs { normal })
    };
    run(alone.path());
    // Processes, as in real use: temporary names differ by process.
    let binary = env!("CARGO_BIN_EXE_wharf-generator");
    let script = "for i in 1 2 3 4 5 6 7 8; do \"$0\" \"$1\" & done; wait";
    let home = case.join("no-such-home");
    let user = tempfile::tempdir().unwrap();
    fs::create_dir_all(user.path().join("wharf")).unwrap();
    symlink(
        case.join("etc/wharf/containers"),
        user.path().join("wharf/containers"),
    )
    .unwrap();
    Command::new("/bin/sh")
        .args(["-c", script, binary])
        .arg(together.path())
        .env("SYSTEMD_SCOPE", "user")
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &home)
        .env("XDG_CONFIG_HOME", user.path())
        .run()
        .unwrap();
    let strip = |tree: Tree, prefix: &str| -> Vec<(PathBuf, String)> {
        tree.into_iter()
            .filter(|(path, _)| path.starts_with("ctr@every.service.d"))
            .map(|(path, text)| (path, text.replace(prefix, "")))
            .collect()
    };
    let expected = strip(
        read_tree(alone.path()),
        &case.join("etc").display().to_string(),
    );
    let found = strip(
        read_tree(together.path()),
        &user.path().display().to_string(),
    );
    assert_eq!(expected.len(), 1);
    assert_eq!(found, expected);
}

/// A broken neighbour, whatever is wrong with it, does not change a byte of the others
/// (threats U1, U6, U7).
#[test]
fn broken_neighbours_change_nothing_for_others() {
    let good = "image = \"i\"\n";
    let root = tempfile::tempdir().unwrap();
    let containers = root.path().join("etc/wharf/containers");
    for name in ["a", "m", "z"] {
        write(&containers.join(format!("{name}.toml")), good);
    }
    let alone = generate(root.path());
    let long = format!("image = \"i\"\ndescription = \"{}\"", "%".repeat(600_000));
    let neighbours: &[&[u8]] = &[
        long.as_bytes(),
        b"image = \"i\"\ndescription = \"\\uFFFE\"",
        b"",
        b"image = ",
        b"image = 1",
        b"imge = \"i\"",
        b"image = \"i\"\ndescription = \"a\\nExecStart=/bin/evil\"",
        b"image = \"i\"\ndescription = \"\xff\"",
        b"image = \"i\"\x00",
        b"\xef\xbb\xbf[[[",
        b"image = \"i\"\n[service]\n\"A=B\\n[Service]\" = \"x\"",
    ];
    for neighbour in neighbours {
        let file = containers.join("broken.toml");
        write(&file, neighbour);
        let mut tree = generate(root.path());
        let drop_in = tree.remove(Path::new("ctr@broken.service.d/50-wharf.conf"));
        let shown = String::from_utf8_lossy(&neighbour[..neighbour.len().min(80)]);
        let drop_in = drop_in.unwrap_or_else(|| panic!("no drop-in for {shown:?}"));
        let expected = "\n[Unit]\nSourcePath=/etc/wharf/containers/broken.toml\n";
        assert!(drop_in.ends_with(expected), "{shown:?}: {drop_in}");
        assert!(
            drop_in
                .split('[')
                .next()
                .unwrap()
                .lines()
                .all(|l| l.is_empty() || l.starts_with("# "))
        );
        let messages = tree.insert("stderr".into(), String::new()).unwrap();
        assert!(
            messages.contains("/etc/wharf/containers/broken.toml:"),
            "{messages}"
        );
        assert_eq!(tree, alone, "{shown:?}");
    }
}

/// 1 or 3 arguments; anything else is not how systemd calls a generator (threats U9).
#[test]
fn u9_arguments_of_the_program() {
    let home = tempfile::tempdir().unwrap();
    let normal = home.path().join("normal");
    let (normal, other) = (normal.to_str().unwrap(), "/nonexistent/early");
    write(
        &home.path().join("config/wharf/containers/web.toml"),
        "image = \"i\"\nenabled = true\n",
    );
    for (args, code) in [
        (vec![], 2),
        (vec!["relative"], 2),
        (vec![normal, other], 2),
        (vec![normal, other, other, other], 2),
        (vec![normal], 0),
        (vec![normal, other, other], 0),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_wharf-generator"))
            .args(&args)
            .env("SYSTEMD_SCOPE", "user")
            .env("XDG_CONFIG_HOME", home.path().join("config"))
            .env("XDG_RUNTIME_DIR", home.path())
            .env("XDG_DATA_HOME", home.path())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            output.stderr
        );
        assert_eq!(output.stderr.contains("usage: "), code == 2, "{args:?}");
        assert_eq!(Path::new(normal).exists(), code == 0, "{args:?}");
    }
    let tree = read_tree(Path::new(normal));
    let link = Path::new("default.target.wants/ctr@web.service");
    assert_eq!(tree[link], "-> /usr/lib/systemd/user/ctr@.service");
    assert_eq!(tree.len(), 2, "{tree:?}");
}

/// Nowhere to write to: said once per container, and no failure of the program.
#[test]
fn u9_a_directory_that_cannot_be_written_is_reported() {
    let case = cases()
        .into_iter()
        .find(|c| c.ends_with("01-minimal"))
        .unwrap();
    let dirs = OutputDirs {
        normal: "/dev/null/normal".into(),
    };
    let messages = generator::run(&paths(&case), &dirs).messages;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].1.contains("/dev/null/normal"), "{messages:?}");
}
