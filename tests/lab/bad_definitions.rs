// SPDX-License-Identifier: Apache-2.0
//! A broken definition never disappears and never harms its neighbours.
//!
//! Every file of tests/cases/definition/bad is put into one lab beside containers that run: its unit
//! still loads, its start fails and says where and why, and nobody else notices.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::container::{define, json, leftovers, prepare, shell, show, unit};
use crate::support::lab::{Lab, Suite, source, text};
use wharf::sys;

/// A broken definition: the container's name, the file, and the problems that `wharf check` prints.
struct Bad {
    name: String,
    file: PathBuf,
    problems: Vec<String>,
}

/// Every broken definition of the table, each as a container of its own name.
fn bad_definitions() -> Vec<Bad> {
    let dir = source().join("tests/cases/definition/bad");
    let names = sys::fs::list_dir(&dir).unwrap();
    let names = names.iter().map(|name| name.to_str().unwrap());
    let bad: Vec<Bad> = names
        .filter_map(|name| name.strip_suffix(".toml"))
        .map(|name| {
            let file = dir.join(format!("{name}.toml"));
            let expected = sys::fs::read_to_string(&file.with_extension("expected")).unwrap();
            let expected = expected.replace("/web.toml:", &format!("/{name}.toml:"));
            Bad {
                name: name.to_owned(),
                file,
                problems: expected.lines().map(str::to_owned).collect(),
            }
        })
        .collect();
    assert!(bad.len() >= 60, "{}", bad.len());
    bad
}

/// Everything that the generator wrote for `names`, byte for byte.
fn generated(lab: &Lab, names: &[&str]) -> String {
    let paths: Vec<String> = names
        .iter()
        .map(|name| format!("-path '*ctr@{name}*'"))
        .collect();
    lab.ok(&format!(
        "find /run/systemd/generator* ! -type d \\( {} \\) -print0 | sort -z |
             while read -rd '' f; do echo \"== $f $(readlink $f)\"; cat $f 2>/dev/null || true; done",
        paths.join(" -o ")
    ))
}

/// What must not change of a running container.
fn life(lab: &Lab, name: &str) -> BTreeMap<String, String> {
    let units = [unit(name)];
    show(lab, &units, "ActiveState,MainPID,InvocationID,NRestarts")
        .remove(&units[0])
        .unwrap()
}

fn neighbours_stay_as_they_are(lab: &Lab, bad: &[Bad]) {
    let siblings = ["alpha", "beta"];
    define(
        lab,
        "alpha",
        &shell(
            "sleep 1000",
            "enabled = true\ninit = true\n[resources]\nmemory = \"1G\"",
        ),
    );
    define(
        lab,
        "beta",
        &shell("sleep 1000", "depends_on = [\"alpha\"]\ninit = true"),
    );
    lab.ok("systemctl daemon-reload; systemctl start ctr@beta");
    let before = (
        generated(lab, &siblings),
        life(lab, "alpha"),
        life(lab, "beta"),
    );
    assert!(before.0.contains("MemoryMax=1073741824"), "{}", before.0);
    for bad in bad {
        let text = sys::fs::read_to_string(&bad.file).unwrap();
        // The table's files are all of a container named web, and one depends on itself.
        define(
            lab,
            &bad.name,
            &text.replace("['web']", &format!("['{}']", bad.name)),
        );
    }
    lab.ok("systemctl daemon-reload");
    let after = (
        generated(lab, &siblings),
        life(lab, "alpha"),
        life(lab, "beta"),
    );
    assert_eq!(before, after);
    assert_eq!(after.1["ActiveState"], "active");
}

fn starts_say_what_is_wrong(lab: &Lab, bad: &[Bad]) {
    let units: Vec<String> = bad.iter().map(|bad| unit(&bad.name)).collect();
    let started = lab.sh(&format!("systemctl start {}", units.join(" ")));
    assert_eq!(started.status.code(), Some(1), "{}", started.stderr);
    let states = show(
        lab,
        &units,
        "LoadState,ActiveState,Result,ExecMainStatus,StatusText",
    );
    let mut wrong = String::new();
    for bad in bad {
        let state = &states[&unit(&bad.name)];
        let facts =
            ["LoadState", "ActiveState", "Result", "ExecMainStatus"].map(|p| state[p].as_str());
        let mut expected = bad.problems[0].clone();
        if let more @ 1.. = bad.problems.len() - 1 {
            write!(
                expected,
                " (and {more} more; run 'wharf check {}')",
                bad.name
            )
            .unwrap();
        }
        if facts != ["loaded", "failed", "exit-code", "125"] || state["StatusText"] != expected {
            writeln!(
                wrong,
                "{}\n- {expected}\n+ {facts:?} {}",
                bad.name, state["StatusText"]
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // As a person sees it.
    let one = &bad[0];
    let status = lab.sh(&format!(
        "COLUMNS=500 systemctl status --no-pager {}",
        unit(&one.name)
    ));
    let status = text(&status.stdout);
    assert!(
        status.contains(&format!("Status: \"{}", one.problems[0])),
        "{status}"
    );
    let history = json(lab, &format!("wharf history --json {}", one.name));
    assert_eq!(history["runs"][0]["reason"], "engine", "{history}");
    let message = history["runs"][0]["message"].as_str().unwrap();
    assert!(message.starts_with(&one.problems[0]), "{message}");
}

fn all_at_once_offline(lab: &Lab, bad: &[Bad]) {
    let check = lab.sh("wharf check");
    assert_eq!(check.status.code(), Some(2));
    let printed = text(&check.stdout) + &check.stderr;
    for problem in bad.iter().flat_map(|bad| &bad.problems) {
        assert!(printed.contains(problem), "{problem} is not in\n{printed}");
    }
    lab.ok("wharf check alpha beta");
}

/// The file of a running container is broken, mended, broken again and removed.
fn running_ones_are_untouched(lab: &Lab) {
    let before = life(lab, "alpha");
    let good = lab.read("/etc/wharf/containers/alpha.toml");
    define(lab, "alpha", &format!("{good}\nimge = 5\n"));
    lab.ok("systemctl daemon-reload");
    assert_eq!(life(lab, "alpha"), before);
    lab.ok("systemctl stop ctr@alpha");
    assert_eq!(lab.property("ctr@alpha", "ActiveState"), "inactive");
    let start = lab.sh("systemctl start ctr@alpha");
    assert_eq!(start.status.code(), Some(1));
    let status = lab.property("ctr@alpha", "StatusText");
    assert!(
        status.starts_with("/etc/wharf/containers/alpha.toml:"),
        "{status}"
    );

    // Mended, it starts: with wharf as it is meant to be, with systemctl at once.
    define(lab, "alpha", &good);
    lab.ok("wharf start alpha");
    assert_eq!(lab.property("ctr@alpha", "MemoryMax"), "1073741824");
    assert_eq!(lab.property("ctr@alpha", "StatusText"), "");
    lab.ok("systemctl stop ctr@alpha");
    define(lab, "alpha", "image = 1\n");
    lab.ok("! systemctl start ctr@alpha 2>&1");
    define(lab, "alpha", &good);
    lab.ok("systemctl start ctr@alpha ctr@beta 2>&1");

    lab.ok("rm /etc/wharf/containers/alpha.toml; systemctl daemon-reload");
    assert_eq!(lab.property("ctr@alpha", "ActiveState"), "active");
    lab.ok("systemctl stop ctr@alpha");
    assert_eq!(lab.property("ctr@alpha", "ActiveState"), "inactive");
    define(lab, "alpha", &good);
}

/// Units without a definition, and ones that are switched off.
fn absent_and_masked(lab: &Lab) {
    let start = lab.sh("systemctl start ctr@nowhere");
    assert_eq!(start.status.code(), Some(1));
    assert_eq!(lab.property("ctr@nowhere", "LoadState"), "loaded");
    let status = lab.property("ctr@nowhere", "StatusText");
    assert!(
        status.contains("nowhere") && status.contains("/etc/wharf/containers"),
        "{status}"
    );

    lab.ok("ln -s /dev/null /etc/wharf/containers/off.toml; systemctl daemon-reload");
    assert_eq!(lab.sh("systemctl start ctr@off").status.code(), Some(1));
    let status = lab.property("ctr@off", "StatusText");
    assert!(status.contains("masked"), "{status}");

    lab.ok("systemctl mask ctr@alpha");
    let start = lab.sh("systemctl start ctr@alpha");
    assert!(start.stderr.contains("is masked"), "{}", start.stderr);
    lab.ok("systemctl unmask ctr@alpha; systemctl start ctr@alpha; systemctl stop ctr@alpha");
}

fn tells(suite: Suite) {
    let lab = prepare(suite);
    let bad = bad_definitions();
    neighbours_stay_as_they_are(&lab, &bad);
    starts_say_what_is_wrong(&lab, &bad);
    all_at_once_offline(&lab, &bad);
    running_ones_are_untouched(&lab);
    absent_and_masked(&lab);
    lab.ok("systemctl stop 'ctr@*'; systemctl reset-failed");
    assert_eq!(leftovers(&lab), "");
}

#[test]
fn trixie_tells_what_is_wrong_with_definitions() {
    tells(Suite::Trixie);
}

#[test]
fn bookworm_tells_what_is_wrong_with_definitions() {
    tells(Suite::Bookworm);
}
