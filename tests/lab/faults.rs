// SPDX-License-Identifier: Apache-2.0
//! What happens around a container that runs: helpers killed, records damaged, systemd executed
//! anew, /run lost, disks full (threats K3, K5, K7, K8, S1).
//!
//! After each fault the container's exit is reported as it was, nothing is left behind, and the
//! next start works with no manual step.

use crate::support::container::{
    IMAGE, define, json, leftovers, output, prepare, shell, show, unit,
};
use crate::support::kill;
use crate::support::kill::{Point, Victim};
use crate::support::lab::{Lab, Suite};

/// Ends by SIGTERM with a code of its own, says when it can be stopped, and whether what an
/// earlier run wrote is there.
const SCRIPT: &str = "trap 'echo end; rm /ready/$(hostname); exit 7' TERM; \
    test -e /written && echo stale; touch /written; echo begin; touch /ready/$(hostname); \
    while :; do sleep 1000 & wait $!; done";

/// How [`SCRIPT`] ends when it is stopped: systemd's view, then the history's.
const STOPPED: &str = "failed exit-code 7 | exited 7 -";

/// A fault while the container `$N` of the unit `$U` runs, and how the run is reported then.
struct Fault {
    name: &'static str,
    act: &'static str,
    expected: &'static str,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "k3-worker",
        act: "kill -9 $(in_engine wharf-relay)",
        expected: STOPPED,
    },
    Fault {
        name: "k3-guard",
        act: "kill -9 $(in_engine wharf-guard)",
        expected: STOPPED,
    },
    Fault {
        name: "k3-relay",
        act: "kill -9 $(in_engine wharf-guard) $(in_engine wharf-relay)",
        expected: STOPPED,
    },
    Fault {
        name: "all",
        act: "systemctl kill -s KILL --kill-whom=all $U",
        expected: "failed signal 9 | signal - KILL",
    },
    Fault {
        name: "k8-truncated",
        act: "truncate -s 100 /run/wharf/bundles/$N/state.json",
        expected: STOPPED,
    },
    Fault {
        name: "k8-empty",
        act: "truncate -s 0 /run/wharf/bundles/$N/state.json",
        expected: STOPPED,
    },
    Fault {
        name: "k8-garbage",
        act: "head -c 5000 /dev/urandom >/run/wharf/bundles/$N/state.json",
        expected: STOPPED,
    },
    Fault {
        name: "k8-newer",
        act: "sed -i 's/\"version\": 1/\"version\": 1000/' /run/wharf/bundles/$N/state.json",
        expected: STOPPED,
    },
    Fault {
        name: "k8-directory",
        act: "cd /run/wharf/bundles/$N; rm state.json; mkdir state.json; touch state.json/x",
        expected: STOPPED,
    },
    Fault {
        name: "bundle-gone",
        act: "rm -r /run/wharf/bundles/$N /run/wharf/runtime/*",
        // Nothing is left that says whose exit it was, but it is none of the engine's.
        expected: STOPPED,
    },
];

/// Prints the processes of the engine's group that are called `$1`.
const FUNCTIONS: &str = "in_engine() {
    for p in $(cat /sys/fs/cgroup/ctr.slice/$U/engine/cgroup.procs); do
        [ $(cat /proc/$p/comm) = $1 ] && echo $p
    done; }";

fn names() -> Vec<&'static str> {
    FAULTS.iter().map(|fault| fault.name).collect()
}

/// Runs `systemctl VERB` for `names`, whatever it says: a container that exits with 7 is a failure.
fn systemctl(lab: &Lab, verb: &str, names: &[&str]) {
    let units: Vec<String> = names.iter().map(|name| unit(name)).collect();
    let mut command = vec!["systemctl", verb];
    command.extend(units.iter().map(String::as_str));
    lab.exec(&command);
}

/// Starts `names`, and waits until they can be stopped.
fn start(lab: &Lab, names: &[&str]) {
    lab.ok("mkdir -p /run/ready; rm -f /run/ready/*");
    systemctl(lab, "start", names);
    let names = names.join(" ");
    lab.wait_for(&format!(
        "(for n in {names}; do [ -e /run/ready/$n ] || exit 1; done)"
    ));
}

/// How the newest run of `name` ended: systemd's view, then the history's.
fn ended(lab: &Lab, name: &str) -> String {
    let unit = unit(name);
    let shown = show(
        lab,
        std::slice::from_ref(&unit),
        "ActiveState,Result,ExecMainStatus,InvocationID",
    );
    let shown = &shown[&unit];
    let history = json(lab, &format!("wharf history --json {name}"));
    let entry = history["runs"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(entry["invocation_id"], shown["InvocationID"].as_str());
    let of = |field: &str| match &entry[field] {
        serde_json::Value::Null => "-".to_owned(),
        value => value.to_string().trim_matches('"').to_owned(),
    };
    format!(
        "{} {} {} | {} {} {}",
        shown["ActiveState"],
        shown["Result"],
        shown["ExecMainStatus"],
        of("reason"),
        of("code"),
        of("signal")
    )
}

/// Checks that a stop now is reported in full, and leaves nothing.
fn stop_cleanly(lab: &Lab, names: &[&str], when: &str) {
    systemctl(lab, "stop", names);
    for name in names {
        assert_eq!(ended(lab, name), STOPPED, "{name}, {when}");
        assert_eq!(output(lab, name), "begin\nend", "{name}, {when}");
    }
    assert_eq!(leftovers(lab), "", "{when}");
}

/// Boots a lab with the containers of the table.
fn up(suite: Suite) -> Lab {
    let lab = prepare(suite);
    kill::arm(&lab);
    for name in names() {
        let definition = shell(SCRIPT, "volumes = [\"/run/ready:/ready\"]");
        define(&lab, name, &definition);
    }
    lab.ok("mkdir /run/ready; systemctl daemon-reload");
    lab
}

/// Each fault of the table, and systemd executed anew below all of them.
fn faults(lab: &Lab) {
    start(lab, &names());
    for Fault { name, act, .. } in FAULTS {
        let unit = unit(name);
        lab.ok(&format!("U={unit}; N={name}; {FUNCTIONS}; {act}"));
    }
    lab.ok("systemctl daemon-reexec");
    systemctl(lab, "stop", &names());
    for Fault { name, expected, .. } in FAULTS {
        assert_eq!(ended(lab, name), *expected, "{name}");
        if *expected == STOPPED {
            assert_eq!(output(lab, name), "begin\nend", "{name}");
        }
    }
    assert_eq!(leftovers(lab), "", "after the faults");
    let reports = "journalctl -o cat MESSAGE_ID=31087b0dcf094be7803777ce53e4874f";
    let reported = lab.ok(&format!("{reports} UNIT=ctr@k3-worker.service"));
    assert!(reported.contains("killed by signal 9"), "{reported}");

    start(lab, &names());
    stop_cleanly(lab, &names(), "in the next run");
}

/// A boot after a power cut: what was in /run is gone, what is on disk is of a run that no
/// clean-up followed. Then /run/wharf is lost below containers that run.
fn k5_boot(lab: &Lab) {
    start(lab, &names());
    let at_once = Point {
        call: "brk".to_owned(),
        nth: 1,
    };
    for name in names() {
        kill::plan(lab, Victim::Cleanup, name, &at_once);
    }
    systemctl(lab, "stop", &names());
    let upper = lab.ok("ls -d /var/lib/wharf/containers/*/upper | wc -l");
    assert_eq!(upper, names().len().to_string());
    lab.ok("rm -r /run/wharf");
    start(lab, &names());
    stop_cleanly(lab, &names(), "after the boot");

    start(lab, &names());
    lab.ok("rm -rf /run/wharf");
    systemctl(lab, "stop", &names());
    for name in names() {
        assert_eq!(ended(lab, name), STOPPED, "{name}");
    }
    assert_eq!(leftovers(lab), "", "without /run/wharf");
    start(lab, &names());
    stop_cleanly(lab, &names(), "after /run/wharf was lost");
}

/// A start that waits for the lock says for whom, and goes on when it is free.
fn k7_lock(lab: &Lab) {
    let name = names()[0];
    lab.ok(&format!(
        "echo 'process 1 (somebody)' >/run/wharf/locks/{name}; rm -f /run/ready/*
         systemd-run --quiet --unit holder flock /run/wharf/locks/{name} sleep 1000
         while flock --nonblock /run/wharf/locks/{name} true; do sleep 0.05; done
         systemctl start --no-block ctr@{name}"
    ));
    lab.wait_for(&format!(
        "systemctl show -p StatusText ctr@{name} | grep -qF 'held by process 1 (somebody)'"
    ));
    lab.ok("systemctl stop holder");
    lab.wait_for(&format!("[ -e /run/ready/{name} ]"));
    stop_cleanly(lab, &[name], "after waiting for the lock");
}

/// Fills a file system, bytes and inodes.
fn fill(lab: &Lab, dir: &str) {
    lab.ok(&format!(
        "mkdir {dir}/fill; cat /dev/zero >{dir}/fill/0 2>/dev/null || true
         i=0; while true >{dir}/fill/$((i += 1)); do true; done 2>/dev/null
         ! touch {dir}/fill/more 2>/dev/null"
    ));
}

/// Stop works on a full file system, start says which one is full, and both when there is room.
fn s1_full(lab: &Lab, dir: &str) {
    let name = names()[0];
    start(lab, &[name]);
    fill(lab, dir);
    systemctl(lab, "stop", &[name]);
    let shown = lab.property(&unit(name), "ExecMainStatus");
    assert_eq!(shown, "7", "{dir}");
    let left = lab.ok(
        "ls -d /run/wharf/bundles/* /run/wharf/runtime/*/ /var/lib/wharf/containers/*/upper \
            2>/dev/null || true; pgrep -l 'wharf|crun' || true",
    );
    assert_eq!(left, "", "{dir}");
    // What the clean-up gave back is room again.
    fill_up(lab, dir);
    systemctl(lab, "start", &[name]);
    let status = lab.property(&unit(name), "StatusText");
    assert!(
        status.contains("No space left on device") && status.contains(dir),
        "{dir}: {status}"
    );
    assert_eq!(lab.property(&unit(name), "ExecMainStatus"), "125", "{dir}");
    lab.ok(&format!("wharf rm {name}; rm -r {dir}/fill"));
    start(lab, &[name]);
    systemctl(lab, "stop", &[name]);
    assert_eq!(ended(lab, name), STOPPED, "{dir}");
    assert_eq!(output(lab, name), "begin\nend", "{dir}");
}

/// Takes what has become free again.
fn fill_up(lab: &Lab, dir: &str) {
    lab.ok(&format!(
        "cat /dev/zero >>{dir}/fill/0 2>/dev/null || true
         i=0; while true >{dir}/fill/again$((i += 1)); do true; done 2>/dev/null"
    ));
}

#[test]
fn k3_k5_k7_k8_faults_around_a_running_container() {
    let lab = up(Suite::Trixie);
    faults(&lab);
    k5_boot(&lab);
    k7_lock(&lab);
}

#[test]
fn k3_k8_bookworm_faults_around_a_running_container() {
    let lab = up(Suite::Bookworm);
    faults(&lab);
}

#[test]
fn s1_stop_and_rm_work_on_a_full_disk() {
    let lab = up(Suite::Trixie);
    lab.ok(&format!(
        "mount -t tmpfs -o size=24m,nr_inodes=3000 tmpfs /var/lib/wharf
         wharf image load /var/tmp/busybox.tar; wharf image inspect {IMAGE} >/dev/null"
    ));
    s1_full(&lab, "/var/lib/wharf");
    lab.ok("mount -t tmpfs -o size=256k,nr_inodes=200 tmpfs /run/wharf");
    s1_full(&lab, "/run/wharf");
}
