// SPDX-License-Identifier: Apache-2.0
//! Crash-only: `wharf start` and `wharf cleanup` are killed everywhere, and the next start works.
//!
//! A good run is traced first. Then one container for each point, all of them at once: run and
//! killed at its point, run again, stopped, run and stopped again without a kill. After each of
//! these the history must be honest, in the end nothing may be left (threats K1, K6).
//! `WHARF_CRASH_STRIDE` says how many system calls lie between two points; 1 is every one.

#![expect(
    clippy::print_stdout,
    reason = "how many points were tried is the figure of the test"
)]

use crate::support::kill;
use std::collections::{BTreeMap, BTreeSet};

use crate::support::container::{define, leftovers, prepare, shell, show, unit};
use crate::support::kill::{Point, Victim};
use crate::support::lab::{Lab, Suite};
use serde_json::Value;

/// Ends by SIGTERM with a code of its own, and says when it can be stopped.
const SCRIPT: &str = "trap 'echo end; rm /ready/$(hostname); exit 7' TERM; echo begin; \
    touch /ready/$(hostname); while :; do sleep 1000 & wait $!; done";

/// What the payload writes in one run.
const OUTPUT: [&str; 2] = ["begin", "end"];

/// Where the numbered steps of `wharf start` begin (src/engine/run/start.rs), by words of one call.
const START_STEPS: &[(&str, &[&str])] = &[
    ("1 load", &["/etc/wharf/containers/", ".toml\""]),
    ("1 lock", &["flock(", "LOCK_EX"]),
    ("1 reclaim", &["state.json"]),
    ("2 image", &["/var/lib/wharf/images/references"]),
    ("3 cgroup", &["CLONE_NEWCGROUP"]),
    ("4 mount namespace", &["CLONE_NEWNS"]),
    ("4 overlay", &["mount(\"overlay\""]),
    ("5 user", &["openat2(", "etc/passwd"]),
    ("5 volume", &["/var/lib/wharf/volumes", ".new-"]),
    ("5 volume appears", &["renameat2("]),
    ("6 config.json", &["config.json", "O_CREAT"]),
    ("7 stdout", &["mknod", "/stdout"]),
    ("7 stored descriptors", &["FDSTORE=1"]),
    ("8 main process", &["MAINPID="]),
    ("8 barrier", &["BARRIER=1"]),
    ("8 record", &["state.json", "O_CREAT"]),
    ("9 ready", &["READY=1"]),
    ("9 event", &["' started"]),
    ("10 relay", &["execve(", "wharf-relay"]),
];

/// Where the numbered steps of `wharf cleanup` begin (src/engine/run/cleanup.rs).
const CLEANUP_STEPS: &[(&str, &[&str])] = &[
    ("1 lock", &["flock(", "LOCK_EX"]),
    ("1 record", &["state.json"]),
    ("2 kill", &["cgroup.kill"]),
    ("3 drain", &["/stdout\""]),
    ("3 release", &["FDSTOREREMOVE=1"]),
    ("4 history", &["history.jsonl", "O_APPEND"]),
    ("5 forget", &["/run/wharf/runtime/"]),
    ("6 cgroup", &["/payload\""]),
    ("8 writable layer", &["rename(", ".trash-"]),
    ("8 run-time directory", &["unlinkat(", "config.json"]),
    ("9 event", &["MESSAGE=Container"]),
];

/// Where `crun create` is killed besides: when it has made the container's first process, and when
/// it has told its PID.
const CREATE_STEPS: &[(&str, &[&str])] = &[("child", &["clone"]), ("pid", &["/pid\""])];

/// One container of the sweep.
struct Case {
    name: String,
    victim: Victim,
    point: Point,
}

impl Case {
    fn describe(&self) -> String {
        let Self {
            name,
            victim,
            point,
        } = self;
        format!("{name} ({victim:?} killed at {} {})", point.call, point.nth)
    }
}

fn definition(name: &str) -> String {
    let volumes = format!("volumes = [\"/run/ready:/ready\", \"{name}:/home\"]");
    shell(SCRIPT, &volumes)
}

fn units(names: &[String]) -> Vec<String> {
    names.iter().map(|name| unit(name)).collect()
}

/// Runs `systemctl VERB` for all, whatever it says: a start that is killed is a failed one.
fn systemctl(lab: &Lab, verb: &str, names: &[String]) {
    let units = units(names);
    let mut command = vec!["systemctl", verb];
    command.extend(units.iter().map(String::as_str));
    lab.exec(&command);
}

/// Waits until every one of `names` can be stopped.
fn wait_ready(lab: &Lab, names: &[String]) {
    let names = names.join(" ");
    lab.wait_for(&format!(
        "(for n in {names}; do [ -e /run/ready/$n ] || exit 1; done)"
    ));
}

/// The lines that payloads wrote, by invocation.
fn outputs(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    // Through a file: what a command prints is bounded, the journal of a whole sweep is not.
    lab.ok(
        "journalctl --sync; journalctl --output=json >/run/crash/journal \
         --output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID _TRANSPORT=stdout",
    );
    let entries = lab.read("/run/crash/journal");
    let mut outputs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in entries.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let of = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let lines = outputs.entry(of("_SYSTEMD_INVOCATION_ID")).or_default();
        lines.push(of("MESSAGE"));
    }
    outputs
}

/// The exit history of `name`, oldest first.
fn history(lab: &Lab, name: &str) -> Vec<Value> {
    let path = format!("/var/lib/wharf/containers/{name}/history.jsonl");
    let text = wharf::sys::fs::read_to_string(&lab.path(&path)).unwrap_or_default();
    let parse = |line| serde_json::from_str(line).unwrap_or(Value::Null);
    text.lines().map(parse).collect()
}

/// What must be so of the run that was killed: `None`, or what is wrong.
fn judge_killed(case: &Case, entry: &Value, state: &BTreeMap<String, String>) -> Option<String> {
    let invocation = entry["invocation_id"].as_str().unwrap_or_default();
    if invocation != state["InvocationID"] {
        return Some(format!("no history of {}: {entry}", state["InvocationID"]));
    }
    let honest = match (entry["reason"].as_str(), entry["code"].as_i64()) {
        (Some("engine"), None) => entry["message"].is_string(),
        // The clean-up did not come to write the status down, and says so.
        (Some("exited"), None) => entry["message"].is_string() && case.victim == Victim::Cleanup,
        (Some("exited"), code) => code == Some(7),
        _ => false,
    };
    (!honest).then(|| format!("history of the killed run: {entry}"))
}

/// What must be so of a run that was not killed.
fn judge_good(
    entry: &Value,
    state: &BTreeMap<String, String>,
    outputs: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let invocation = &state["InvocationID"];
    let lines = outputs.get(invocation).cloned().unwrap_or_default();
    let result = (
        &*state["ActiveState"],
        &*state["Result"],
        &*state["ExecMainStatus"],
    );
    if result != ("failed", "exit-code", "7") {
        return Some(format!("systemd says {state:?}"));
    }
    if lines != OUTPUT {
        return Some(format!("its output was {lines:?}"));
    }
    let recorded = (entry["invocation_id"].as_str(), entry["code"].as_i64());
    (recorded != (Some(invocation), Some(7))).then(|| format!("history of a good run: {entry}"))
}

const PROPERTIES: &str = "InvocationID,ActiveState,Result,ExecMainStatus,NFileDescriptorStore";

/// Takes all `cases` through a killed run and a good one. Returns what was wrong.
fn sweep(lab: &Lab, cases: &[Case]) -> Vec<String> {
    let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
    let mut wrong = Vec::new();
    let (start, cleanup): (Vec<&Case>, Vec<&Case>) = cases
        .iter()
        .partition(|case| case.victim != Victim::Cleanup);
    let names_of = |cases: &[&Case]| cases.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    for case in cases {
        kill::plan(lab, case.victim, &case.name, &case.point);
    }
    systemctl(lab, "start", &names);
    wait_ready(lab, &names_of(&cleanup));
    let killed = show(lab, &units(&names), PROPERTIES);
    // One that still runs was killed in the relay, if at all: it has to be a running container.
    let active: Vec<String> = names_of(&start)
        .into_iter()
        .filter(|name| killed[&unit(name)]["ActiveState"] != "failed")
        .collect();
    wait_ready(lab, &active);
    systemctl(lab, "stop", &[active, names_of(&cleanup)].concat());
    lab.ok("rm -f /run/ready/*");
    // With no manual step in between.
    systemctl(lab, "start", &names);
    wait_ready(lab, &names);
    systemctl(lab, "stop", &names);
    let good = show(lab, &units(&names), PROPERTIES);
    let outputs = outputs(lab);
    for case in cases {
        let unit = unit(&case.name);
        let [first, second] = &history(lab, &case.name)[..] else {
            wrong.push(format!(
                "{}: history {:?}",
                case.describe(),
                history(lab, &case.name)
            ));
            continue;
        };
        let of_killed = judge_killed(case, first, &killed[&unit]);
        let of_good = judge_good(second, &good[&unit], &outputs);
        let both = of_killed.into_iter().chain(of_good);
        wrong.extend(both.map(|what| format!("{}: {what}", case.describe())));
    }
    wrong
}

/// What `victims` do in a good run, call by call.
fn good_run(lab: &Lab, victims: &[Victim]) -> Vec<Vec<String>> {
    let names = ["good".to_owned()];
    define(lab, "good", &definition("good"));
    lab.ok("mkdir -p /run/ready; systemctl daemon-reload");
    for victim in victims {
        kill::trace(lab, *victim, "good");
    }
    systemctl(lab, "start", &names);
    wait_ready(lab, &names);
    systemctl(lab, "stop", &names);
    lab.wait_for("! pgrep strace");
    victims.iter().map(|v| kill::calls(lab, *v)).collect()
}

fn crash(suite: Suite, stride: usize) {
    let stride = std::env::var("WHARF_CRASH_STRIDE").map_or(stride, |text| text.parse().unwrap());
    let lab = prepare(suite);
    kill::arm(&lab);
    let mut victims = vec![
        (Victim::Start, START_STEPS),
        (Victim::Cleanup, CLEANUP_STEPS),
    ];
    // runc is a Go program: its main thread does something else each time.
    if suite == Suite::Trixie {
        kill::arm_runtime(&lab);
        victims.push((Victim::Create, CREATE_STEPS));
    }
    let traced: Vec<Victim> = victims.iter().map(|(victim, _)| *victim).collect();
    let calls = good_run(&lab, &traced);
    let mut cases = Vec::new();
    for ((victim, steps), calls) in victims.into_iter().zip(&calls) {
        let around = |(_, words): &(&str, &[&str])| kill::around(calls, words);
        let points: BTreeSet<Point> = kill::every(calls, stride)
            .into_iter()
            .chain(steps.iter().flat_map(around))
            .collect();
        cases.extend(points.into_iter().enumerate().map(|(index, point)| Case {
            name: format!("{}-{index}", format!("{victim:?}").to_lowercase()),
            victim,
            point,
        }));
    }
    for case in &cases {
        define(&lab, &case.name, &definition(&case.name));
    }
    lab.ok("systemctl daemon-reload");
    let mut wrong = Vec::new();
    // Not more at once than journald and a small machine can take.
    for batch in cases.chunks(50) {
        wrong.extend(sweep(&lab, batch));
        let left = leftovers(&lab);
        if !left.is_empty() {
            wrong.push(format!("left behind:\n{left}"));
        }
    }
    let lengths: Vec<usize> = calls.iter().map(Vec::len).collect();
    println!("{} points in {lengths:?} calls of {traced:?}", cases.len());
    assert!(
        wrong.is_empty(),
        "{} points in {lengths:?} calls of {traced:?}, {} wrong:\n{}",
        cases.len(),
        wrong.len(),
        wrong.join("\n")
    );
    // A sweep in which nothing was killed would be as clean. A kill late in the relay or in the
    // clean-up leaves no trace in the history.
    for (victim, least) in [
        (Victim::Start, 70),
        (Victim::Create, 70),
        (Victim::Cleanup, 40),
    ] {
        let of_victim = cases.iter().filter(|case| case.victim == victim);
        let names: Vec<&str> = of_victim.map(|case| case.name.as_str()).collect();
        let is_killed = |name: &&&str| history(&lab, name)[0]["code"].is_null();
        let killed: Vec<_> = names.iter().filter(is_killed).collect();
        assert!(
            killed.len() * 100 >= names.len() * least,
            "{victim:?}: of {} points in {lengths:?} calls of {traced:?} only {} killed: {killed:?}",
            names.len(),
            killed.len()
        );
    }
}

#[test]
fn k1_trixie_start_and_cleanup_are_killed_everywhere() {
    crash(Suite::Trixie, 5);
}

#[test]
fn k1_bookworm_start_and_cleanup_are_killed_everywhere() {
    crash(Suite::Bookworm, 10);
}
