// SPDX-License-Identifier: Apache-2.0
//! The real binary on a directory tree of its own: what needs no running systemd, to the byte.

use std::path::Path;

use wharf::sys::command::Command;
use wharf::sys::fs::{Durability, ensure_dir, write_atomic};

/// A directory tree, and the binary run on it.
struct Tree(tempfile::TempDir);

/// What a run left: exit status, standard output, standard error.
type Left = (i32, String, String);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (path, text) in files {
            let path = tree.0.path().join(path);
            ensure_dir(path.parent().unwrap(), 0o755).unwrap();
            write_atomic(&path, text.as_bytes(), 0o644, Durability::Memory).unwrap();
        }
        tree
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn wharf(&self, args: &[&str]) -> Left {
        let root = self.path().to_str().unwrap();
        let mut all = vec!["--root", root];
        all.extend(args);
        let (status, stdout, stderr) = wharf(&all);
        (
            status,
            stdout.replace(root, "ROOT"),
            stderr.replace(root, "ROOT"),
        )
    }
}

fn wharf(args: &[&str]) -> Left {
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(args)
        .env("TZ", "UTC")
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        output.stderr,
    )
}

const RUN: &str = r#"{"invocation_id":"0123456789abcdef0123456789abcdef","started_at":"2026-01-01T00:00:00.000000Z","finished_at":"2026-01-01T00:05:00.000000Z","reason":"exited","code":3,"signal":null,"core_dumped":false,"service_result":"exit-code","message":null,"image":{"image":{"reference":"nginx:1","digest":"sha256:00"}},"timing":[{"name":"load","micros":1234},{"name":"create","micros":20500}]}
"#;

#[test]
fn ps_of_a_tree() {
    let tree = Tree::new(&[
        ("etc/wharf/containers/web.toml", "image = \"nginx:1\"\n"),
        ("etc/wharf/containers/job@.toml", "image = \"job\"\n"),
        ("usr/lib/wharf/containers/broken.toml", "imge = 1\n"),
        ("var/lib/wharf/containers/old/history.jsonl", RUN),
    ]);
    assert_eq!(tree.wharf(&["ps"]).1, "NAME  IMAGE  STATE  STATUS  PID\n");
    assert_eq!(tree.wharf(&["ps", "-aq"]).1, "broken\nold\nweb\n");
    let (status, stdout, stderr) = tree.wharf(&["ps", "-a"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let lines: Vec<&str> = stdout.lines().collect();
    // The width of STATUS depends on today's date.
    let columns: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(columns, ["NAME", "IMAGE", "STATE", "STATUS", "PID"]);
    assert!(
        lines[1].starts_with("broken  -        configured  broken: ")
            && lines[1].ends_with("broken.toml:1:1: unknown key 'imge', did you mean 'image'?"),
        "{stdout}"
    );
    assert!(
        lines[2].starts_with("old     nginx:1  exited      exited (3) "),
        "{stdout}"
    );
    assert_eq!(lines[3], "web     nginx:1  configured");
}

#[test]
fn ps_json_of_a_tree() {
    let tree = Tree::new(&[("var/lib/wharf/containers/old/history.jsonl", RUN)]);
    let (status, stdout, _) = tree.wharf(&["ps", "-a", "--json"]);
    assert_eq!(status, 0);
    let expected = r#"{
  "schema": 1,
  "containers": [
    {
      "name": "old",
      "state": "exited",
      "unit": "ctr@old.service",
      "sub_state": null,
      "image": "nginx:1",
      "problem": null,
      "pid": null,
      "started_at": null,
      "last_run": {
        "invocation_id": "0123456789abcdef0123456789abcdef",
        "started_at": "2026-01-01T00:00:00.000000Z",
        "finished_at": "2026-01-01T00:05:00.000000Z",
        "reason": "exited",
        "code": 3,
        "signal": null,
        "core_dumped": false,
        "service_result": "exit-code",
        "message": null,
        "image": {
          "reference": "nginx:1",
          "digest": "sha256:00",
          "rootfs": null
        },
        "timing": [
          {
            "name": "load",
            "micros": 1234
          },
          {
            "name": "create",
            "micros": 20500
          }
        ]
      }
    }
  ]
}
"#;
    assert_eq!(stdout, expected);
}

#[test]
fn history_of_a_tree() {
    let tree = Tree::new(&[("var/lib/wharf/containers/old/history.jsonl", RUN)]);
    let (status, stdout, _) = tree.wharf(&["history", "--timing", "old"]);
    assert_eq!(
        (status, stdout.as_str()),
        (0, "RUN  load    create\n0    1.2 ms  20.5 ms\n")
    );
    let (status, stdout, _) = tree.wharf(&["history", "old"]);
    let second = stdout.lines().nth(1).unwrap();
    assert_eq!(status, 0);
    assert!(
        second.starts_with("0    2026-01-01 00:00:00  5 minutes  exited (3) "),
        "{stdout}"
    );
    let (status, stdout, stderr) = tree.wharf(&["history", "nobody"]);
    assert_eq!((status, stdout.as_str()), (5, ""));
    assert_eq!(
        stderr,
        "wharf: there is no container 'nobody': no 'nobody.toml' in ROOT/etc/wharf/containers, \
         ROOT/run/wharf/containers, ROOT/usr/local/lib/wharf/containers, \
         ROOT/usr/lib/wharf/containers\n"
    );
}

#[test]
fn a_tree_runs_nothing() {
    let tree = Tree::new(&[]);
    for verb in [
        "start", "stop", "restart", "reload", "kill", "pause", "unpause", "wait", "status",
        "inspect", "logs", "rm",
    ] {
        let (status, stdout, stderr) = tree.wharf(&[verb, "web"]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{verb}");
        assert_eq!(
            stderr, "wharf: this command needs the running system; leave out '--root'\n",
            "{verb}"
        );
    }
}

#[test]
fn no_bus() {
    for args in [&["--system", "ps"][..], &["--system", "start", "web"]] {
        let (status, stdout, stderr) = wharf(args);
        assert_eq!((status, stdout.as_str()), (1, ""), "{args:?}");
        assert_eq!(
            stderr,
            "wharf: connecting to systemd: 'unix:path=/nonexistent/bus': No such file or directory \
             (os error 2); this needs systemd and its message bus\n",
            "{args:?}"
        );
    }
}

/// A bus that takes connections and then says nothing (threats P7).
#[test]
fn a_hung_bus_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("bus");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let address = format!("unix:path={}", socket.display());
    let begun = std::time::Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(["--system", "ps"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
        .output()
        .unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        output.stderr,
        format!(
            "wharf: connecting to systemd: '{address}': no answer within 9 s; this needs systemd \
             and its message bus\n"
        )
    );
    drop(listener);
}

#[test]
fn usage_errors() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "Usage: wharf [OPTIONS] <COMMAND>"),
        (&["strat"], "error: unrecognized subcommand 'strat'"),
        (
            &["start"],
            "error: the following required arguments were not provided:",
        ),
        (
            &["start", "../x"],
            "error: invalid value '../x' for '<NAME>...'",
        ),
        (
            &["stop", "-t", "x", "web"],
            "error: invalid value 'x' for '--time <SECONDS>'",
        ),
        (
            &["kill", "-s", "FOO", "web"],
            "error: invalid value 'FOO' for '--signal <SIGNAL>'",
        ),
        (
            &["ps", "--json", "-q"],
            "error: the argument '--json' cannot be used with '--quiet'",
        ),
    ];
    for (args, expected) in cases {
        let (status, stdout, stderr) = wharf(args);
        assert_eq!((status, stdout.as_str()), (2, ""), "{args:?}");
        assert!(stderr.contains(expected), "{args:?}: {stderr}");
    }
}

/// The lines of help that name a verb, with the headings that they are under.
fn listed(help: &str) -> Vec<(String, String)> {
    let mut heading = "";
    let mut found = Vec::new();
    for line in help.lines().take_while(|line| *line != "Options:") {
        match line.strip_prefix("  ") {
            Some(verb) => {
                let name = verb.split(' ').next().unwrap();
                found.push((heading.to_owned(), name.to_owned()));
            }
            None => heading = line,
        }
    }
    found
}

#[test]
fn help_groups_the_verbs() {
    let (status, help, stderr) = wharf(&["help"]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    assert_eq!(wharf(&["--help"]).1, help);
    // Nothing was asked for: the same where mistakes are told.
    assert_eq!(wharf(&[]), (2, String::new(), help.clone()));
    let verbs = listed(&help);
    for (heading, name) in [
        ("Run containers:", "start"),
        ("Look at containers:", "ps"),
        ("Files of containers:", "cp"),
        ("Images:", "image"),
        ("Definitions:", "daemon-reload"),
        ("Plumbing:", "cleanup"),
    ] {
        let expected = (heading.to_owned(), name.to_owned());
        assert!(verbs.contains(&expected), "{expected:?} in {help}");
    }
    let plumbing = verbs.iter().position(|(heading, _)| heading == "Plumbing:");
    let behind = verbs.iter().skip(plumbing.unwrap());
    assert!(behind.into_iter().all(|(h, _)| h == "Plumbing:"), "{help}");
}

#[test]
fn every_verb_is_in_one_group() {
    use clap::CommandFactory as _;
    let command = wharf::cli::Cli::command();
    let image = command.find_subcommand("image").unwrap();
    let of_image = wharf(&["help", "image"]).1;
    for (command, help) in [(&command, wharf(&["help"]).1), (image, of_image)] {
        let defined = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let mut defined: Vec<&str> = defined.map(clap::Command::get_name).collect();
        defined.sort_unstable();
        let mut shown: Vec<String> = listed(&help).into_iter().map(|(_, name)| name).collect();
        shown.sort_unstable();
        assert_eq!(shown, defined);
        let wide = help.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "as much as clap wraps the rest to");
    }
}

#[test]
fn help_of_a_verb() {
    for words in [&["start"][..], &["image"], &["image", "pull"], &["help"]] {
        let of_help = wharf(&[&["help"], words].concat());
        assert_eq!(of_help, wharf(&[words, &["--help"]].concat()), "{words:?}");
        assert_eq!((of_help.0, of_help.2.as_str()), (0, ""), "{words:?}");
    }
    let (status, stdout, stderr) = wharf(&["help", "strat"]);
    assert_eq!((status, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("unrecognized subcommand 'strat'"),
        "{stderr}"
    );
}

/// Packages are built by whoever; what needs no container needs no session either.
#[test]
fn help_and_completions_need_no_session() {
    for args in [&["help"][..], &["completion", "bash"], &["schema"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
        let command = command.arg("--user").args(args.iter());
        let output = command.env("XDG_RUNTIME_DIR", "").env("HOME", "").output();
        assert_eq!(output.unwrap().status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn completions_name_the_verbs() {
    for shell in ["bash", "zsh", "fish"] {
        let (status, stdout, stderr) = wharf(&["completion", shell]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{shell}");
        for verb in ["unpause", "daemon-reload", "history"] {
            assert!(stdout.contains(verb), "{shell}: {verb}");
        }
    }
}

#[test]
fn the_shells_take_their_completions() {
    let bash = Command::new("bash")
        .args(["-n", "-c"])
        .arg(wharf(&["completion", "bash"]).1)
        .run();
    bash.unwrap();
}
