// SPDX-License-Identifier: Apache-2.0
//! The package is upgraded under running containers: what an earlier wharf started, this one shows,
//! copies from, stops and remembers as if it had started it itself.

use std::path::PathBuf;

use serde_json::Value;
use wharf::sys::command::Command;

use crate::support::container::{IMAGE, define, json, leftovers, output, shell, use_runtime};
use crate::support::lab::{Lab, Suite, source, text};

/// The first version whose records have to be readable for ever.
const EARLIER: &str = "c242493";

/// Where the earlier version is, source and programs.
fn earlier() -> PathBuf {
    let built = Command::new(source().join("tests/rig/earlier"))
        .arg(EARLIER)
        .deadline(std::time::Duration::from_secs(900))
        .run()
        .unwrap();
    PathBuf::from(text(&built.stdout).trim_end())
}

/// A lab in which the earlier wharf has started containers.
fn started(suite: Suite) -> Lab {
    let earlier = earlier();
    let lab = Lab::up_bare(suite);
    lab.verb(&["install"])
        .env("WHARF_SOURCE", earlier.join("source"))
        .env("WHARF_BUILD", earlier.join("programs"))
        .run()
        .unwrap();
    if suite == Suite::Bookworm {
        use_runtime(&lab, "runc");
    }
    lab.busybox_image("/var/tmp/busybox.tar", &["--name", IMAGE]);
    lab.ok("wharf image load /var/tmp/busybox.tar");
    let talk = "echo up; echo mine >/file; while read -r line; do echo got $line; done </in/fifo; sleep 1000";
    define(
        &lab,
        "web",
        &shell(
            talk,
            "init = true
             stop_signal = \"SIGINT\"
             volumes = [\"/srv/in:/in\"]
             [hooks]
             poststop = { path = \"/usr/bin/tee\", args = [\"tee\", \"-a\", \"/srv/poststop\"] }",
        ),
    );
    define(
        &lab,
        "direct",
        &shell("sleep 1000", "init = true\n[log]\ndriver = \"direct\""),
    );
    define(
        &lab,
        "kept",
        &shell(
            "echo once >>/kept; sleep 1000",
            "init = true\npersist = true",
        ),
    );
    define(&lab, "killed", &shell("sleep 1000", "init = true"));
    lab.ok(
        "mkdir -p /srv/in; mkfifo /srv/in/fifo; systemctl daemon-reload
         systemctl start ctr@web ctr@direct ctr@kept ctr@killed",
    );
    lab.wait_for("wharf cp web:/file - >/dev/null 2>&1");
    lab
}

/// What `ps` says, without the time that passes.
fn containers(lab: &Lab) -> Vec<Value> {
    let listed = json(lab, "wharf ps --all --json");
    let containers = listed["containers"].as_array().unwrap().iter().cloned();
    containers
        .map(|mut container| {
            container.as_object_mut().unwrap().remove("status");
            container
        })
        .collect()
}

fn tell(suite: Suite) {
    let lab = started(suite);
    let before = containers(&lab);
    assert_eq!(before.len(), 4);
    let pid = lab.property("ctr@web.service", "MainPID");
    let record = lab.read("/run/wharf/bundles/web/state.json");
    let version = lab.ok("sha256sum /usr/bin/wharf");

    lab.verb(&["install"]).run().unwrap();

    assert_ne!(lab.ok("sha256sum /usr/bin/wharf"), version);
    assert_eq!(containers(&lab), before);
    assert_eq!(lab.property("ctr@web.service", "MainPID"), pid);
    assert_eq!(lab.read("/run/wharf/bundles/web/state.json"), record);
    let status = lab.ok("wharf status web");
    assert!(
        status.contains("running") && status.contains(IMAGE),
        "{status}"
    );
    let inspected = json(&lab, "wharf inspect web");
    let started_at = record_of(&record, "started_at");
    let inspected = inspected["containers"][0].to_string();
    assert!(inspected.contains(&started_at), "{inspected}");
    assert_eq!(lab.ok("wharf cp web:/file - | tar -xO"), "mine");
    assert_eq!(lab.ok("wharf diff web"), "A /file\nA /in");
    lab.ok("echo new >/srv/in/fifo");
    lab.wait_for("journalctl --sync; wharf logs web | grep -q 'got new'");
    assert_eq!(output(&lab, "web"), "up\ngot new");
    let refused = lab.sh(&format!("wharf image rm {IMAGE}"));
    assert!(!refused.status.success(), "an image in use was removed");
    assert!(refused.stderr.contains("web"), "{}", refused.stderr);

    lab.ok("wharf stop web direct; systemctl stop ctr@kept");
    lab.sh("systemctl kill --signal=KILL ctr@killed");
    lab.wait_for("test $(systemctl show --value -p ActiveState ctr@killed) = failed");
    let hook: Value = serde_json::from_str(&lab.read("/srv/poststop")).unwrap();
    assert_eq!(hook["id"], record_of(&record, "id"));
    assert_eq!(hook["status"], "stopped");
    for (name, reason) in [
        ("web", "exited"),
        ("direct", "exited"),
        ("kept", "exited"),
        ("killed", "signal"),
    ] {
        let history = json(&lab, &format!("wharf history --json {name}"));
        let runs = history["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 1, "{name}: {history}");
        assert_eq!(runs[0]["reason"], reason, "{name}: {history}");
        assert!(runs[0].to_string().contains(IMAGE), "{name}: {history}");
    }
    let run = json(&lab, "wharf history --json web");
    assert_eq!(run["runs"][0]["started_at"], started_at.as_str(), "{run}");

    // What the earlier version kept and stored is good for the next run, whose history goes on.
    lab.ok("wharf start web kept");
    assert_eq!(lab.ok("wharf cp kept:/kept - | tar -xO"), "once\nonce");
    lab.ok("wharf stop web kept; systemctl reset-failed; wharf image check");
    let runs = json(&lab, "wharf history --json web");
    assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{runs}");
    lab.ok("wharf rm kept");
    assert_eq!(leftovers(&lab), "");
}

/// A field of a run-time record.
fn record_of(record: &str, field: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    record[field].as_str().unwrap().to_owned()
}

#[test]
fn trixie_upgrades_under_running_containers() {
    tell(Suite::Trixie);
}

#[test]
fn bookworm_upgrades_under_running_containers() {
    tell(Suite::Bookworm);
}
