// SPDX-License-Identifier: Apache-2.0
//! What a real systemd makes of the units and of what the generator writes.
//!
//! Runs on systemd 252 and 257. `systemd-analyze verify` is one oracle, and a weak one: it does not
//! see a directive that was swallowed or injected; tests/lab/fidelity.rs does.

use crate::support::lab;
use std::fs;
use std::path::PathBuf;

use crate::support::lab::{Lab, Suite};
use wharf::sys::command::Command;

fn copy(from: &str, lab: &Lab, to: &str) {
    let to = lab.path(to);
    fs::create_dir_all(&to).unwrap();
    Command::new("cp")
        .args(["-a", "--no-preserve=ownership"])
        .arg(lab::source().join(from).join("."))
        .arg(to)
        .run()
        .unwrap();
}

fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(lab::source().join("tests/cases/generator"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// `systemd-analyze verify` exits 0 for an unknown directive, so silence is what counts.
fn assert_verifies(lab: &Lab, dir: &str, manager: &str, units: &str) {
    let output = lab.sh(&format!(
        "cd {dir} && XDG_RUNTIME_DIR=/run HOME=/root SYSTEMD_UNIT_PATH={dir}: \
         systemd-analyze {manager} verify --man=no {units}"
    ));
    let said = format!("{}{}", lab::text(&output.stdout), output.stderr);
    // The one key that 252 does not have: systemd 254 brought it (units/system/ctr@.service).
    let newer = |line: &&str| {
        lab.suite() == Suite::Bookworm
            && line.contains("'DelegateSubgroup' in section [Service], ignoring")
    };
    let said: String = said.lines().filter(|line| !newer(line)).collect();
    assert!(
        output.status.success() && said.is_empty(),
        "{dir} {units} on {}: {}\n{said}",
        lab.suite().name(),
        output.complaint(),
    );
}

/// Units whose drop-ins are in `expected/`.
fn units(case: &str) -> Vec<String> {
    let dir: PathBuf = lab::source()
        .join("tests/cases/generator")
        .join(case)
        .join("expected");
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut units: Vec<String> = names
        .filter_map(|name| {
            name.strip_suffix(".service.d")
                .map(|n| format!("{n}.service"))
        })
        .collect();
    units.sort();
    units
}

fn verify(suite: Suite) {
    let lab = Lab::up(suite);
    for (manager, scope) in [("--system", "system"), ("--user", "user")] {
        let dir = format!("/tmp/shipped-{scope}");
        copy(&format!("units/{scope}"), &lab, &dir);
        assert_verifies(
            &lab,
            &dir,
            manager,
            "ctr@.service ctr@web.service ctr.slice",
        );
    }
    let mut verified = 0;
    for case in cases() {
        let user = lab::source()
            .join("tests/cases/generator")
            .join(&case)
            .join("home")
            .exists();
        let (manager, scope) = if user {
            ("--user", "user")
        } else {
            ("--system", "system")
        };
        let dir = format!("/tmp/{case}");
        copy(
            &format!("tests/cases/generator/{case}/expected"),
            &lab,
            &dir,
        );
        copy(&format!("units/{scope}"), &lab, &dir);
        for unit in units(&case) {
            assert_verifies(&lab, &dir, manager, &unit);
            verified += 1;
        }
    }
    assert!(verified > 30, "{verified}");
}

#[test]
fn everything_verifies_on_252() {
    verify(Suite::Bookworm);
}

#[test]
fn everything_verifies_on_257() {
    verify(Suite::Trixie);
}

/// The story of an administrator: enable, mask, break and mend a definition.
fn administer(suite: Suite) {
    let lab = Lab::up(suite);
    lab.write(
        "/etc/wharf/containers/web.toml",
        "image = \"x\"\nenabled = true\n",
    );
    lab.write(
        "/etc/wharf/containers/broken.toml",
        "image = \"x\"\n[resources]\nmemroy = 1\n",
    );
    lab.write(
        "/etc/wharf/containers/up.toml",
        "image = \"x\"\n[install]\nUpheldBy = \"some.target\"\nRequiredBy = \"some.target\"\n",
    );
    lab.ok("systemctl daemon-reload");

    // Enabled by the definition, by systemctl, and neither.
    let enabled = |unit: &str| {
        let output = lab.exec(&["systemctl", "is-enabled", unit]);
        lab::text(&output.stdout).trim_end().to_owned()
    };
    assert_eq!(enabled("ctr@web"), "enabled-runtime");
    assert_eq!(enabled("ctr@other"), "disabled");
    lab.ok("systemctl enable ctr@other");
    assert_eq!(enabled("ctr@other"), "enabled");
    lab.ok("systemctl disable ctr@other; systemctl mask ctr@other");
    assert_eq!(enabled("ctr@other"), "masked");
    lab.ok("systemctl unmask ctr@other");
    let wants = lab.property("multi-user.target", "Wants");
    assert!(
        wants.split(' ').any(|unit| unit == "ctr@web.service"),
        "{wants}"
    );

    // [install] reaches the target.
    lab.write("/etc/systemd/system/some.target", "[Unit]\nDescription=x\n");
    lab.ok("systemctl daemon-reload");
    assert_eq!(lab.property("some.target", "Upholds"), "ctr@up.service");
    assert_eq!(lab.property("some.target", "Requires"), "ctr@up.service");

    // A broken definition is a loaded unit that points to its file, and so is none at all.
    assert_eq!(lab.property("ctr@broken", "LoadState"), "loaded");
    assert_eq!(
        lab.property("ctr@broken", "SourcePath"),
        "/etc/wharf/containers/broken.toml"
    );
    assert_eq!(lab.property("ctr@undefined", "LoadState"), "loaded");

    // A change is noticed while the unit is loaded, which ctr@web is: a target wants it.
    assert_eq!(lab.property("ctr@web", "NeedDaemonReload"), "no");
    lab.write(
        "/etc/wharf/containers/web.toml",
        "image = \"x\"\nenabled = true\n#\n",
    );
    lab.ok("touch -d '+1 hour' /etc/wharf/containers/web.toml");
    assert_eq!(lab.property("ctr@web", "NeedDaemonReload"), "yes");
    lab.ok("systemctl daemon-reload");
    assert_eq!(lab.property("ctr@web", "NeedDaemonReload"), "no");
}

#[test]
fn administered_on_252() {
    administer(Suite::Bookworm);
}

#[test]
fn administered_on_257() {
    administer(Suite::Trixie);
}
