// SPDX-License-Identifier: Apache-2.0
//! Killing `wharf start` and `wharf cleanup` at a chosen system call (threats, rig KILL).
//!
//! The unit's commands go through a wrapper in the lab, by one drop-in for all containers. Where a
//! plan is laid for a container, its next command runs below `strace -D`, which makes the tracer
//! a grandchild: wharf is the unit's main process as always, and only wharf is traced, not what it
//! runs. The command after that runs as always. Production code has no failpoint.

use std::collections::BTreeMap;

use crate::support::container::use_runtime;
use crate::support::lab::Lab;

/// Which of the unit's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Victim {
    /// `ExecStart=`, which becomes the relay.
    Start,
    /// crun as it creates the container, once [`arm_runtime`] has been called.
    Create,
    /// `ExecStopPost=`.
    Cleanup,
}

impl Victim {
    /// Its directory of plans.
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Create => "create",
            Self::Cleanup => "cleanup",
        }
    }
}

/// `$1` is the kind of command, `$2` the container, the rest what the unit runs.
const WRAPPER: &str = r#"#!/bin/sh
plan=/run/crash/$1/$2
shift 2
[ -e "$plan" ] || exec "$@"
read -r option value <"$plan"
rm "$plan"
exec strace -D -qq "$option" "$value" "$@"
"#;

/// crun, which is told the container by the name of its bundle only.
const RUNTIME: &str = r#"#!/bin/sh
for word; do
    [ "$previous" != --bundle ] || exec /run/crash/wrapper create "${word##*/}" /usr/bin/crun "$@"
    previous=$word
done
exec /usr/bin/crun "$@"
"#;

const DROP_IN: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=
ExecStart=/run/crash/wrapper start %i /usr/bin/wharf start --foreground %i
ExecStopPost=
ExecStopPost=-/run/crash/wrapper cleanup %i /usr/bin/wharf cleanup %i
";

/// Makes the lab one where [`plan`] and [`trace`] work; counts after the next daemon-reload.
pub(crate) fn arm(lab: &Lab) {
    lab.write("/run/crash/wrapper", WRAPPER);
    lab.write("/run/systemd/system/ctr@.service.d/90-crash.conf", DROP_IN);
    lab.ok("cd /run/crash; mkdir -p start create cleanup; chmod +x wrapper");
}

/// Makes crun the runtime, and one that can be killed.
pub(crate) fn arm_runtime(lab: &Lab) {
    lab.write("/run/crash/crun", RUNTIME);
    lab.ok("chmod +x /run/crash/crun");
    use_runtime(lab, "/run/crash/crun");
}

/// Where a process is killed: just before the `nth` call of `call` of its main thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// A system call.
    pub(crate) call: String,
    /// Counted from 1.
    pub(crate) nth: usize,
}

/// Kills the container's next command of this kind at `point`.
pub(crate) fn plan(lab: &Lab, victim: Victim, container: &str, point: &Point) {
    let Point { call, nth } = point;
    let inject = format!("-einject={call}:signal=KILL:when={nth} -o/dev/null\n");
    lab.write(&plan_path(victim, container), inject);
}

/// Writes down the calls of the container's next command of this kind, for [`calls`].
pub(crate) fn trace(lab: &Lab, victim: Victim, container: &str) {
    let output = format!("-s300 -o/run/crash/{}.trace\n", victim.name());
    lab.write(&plan_path(victim, container), output);
}

fn plan_path(victim: Victim, container: &str) -> String {
    format!("/run/crash/{}/{container}", victim.name())
}

/// The calls that [`trace`] wrote down, in order.
pub(crate) fn calls(lab: &Lab, victim: Victim) -> Vec<String> {
    let text = lab.read(&format!("/run/crash/{}.trace", victim.name()));
    let is_call = |line: &&str| !line.starts_with("---") && !line.starts_with("+++");
    text.lines().filter(is_call).map(str::to_owned).collect()
}

/// The point just before the first call that contains every one of `words`, and the one after it.
pub(crate) fn around(calls: &[String], words: &[&str]) -> [Point; 2] {
    let index = calls
        .iter()
        .position(|call| words.iter().all(|word| call.contains(word)))
        .unwrap_or_else(|| {
            panic!(
                "no call with {words:?} in a good run:\n{}",
                calls.join("\n")
            )
        });
    [index, index + 1].map(|index| named(calls, index))
}

/// The call at `index` by its name and how many of that name it makes. strace counts that way too:
/// with a set of calls, each of them has a counter of its own.
fn named(calls: &[String], index: usize) -> Point {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut point = None;
    for call in calls.iter().take(index + 1) {
        let name = call.split('(').next().unwrap_or_default();
        let nth = seen.entry(name).or_default();
        *nth += 1;
        point = Some(Point {
            call: name.to_owned(),
            nth: *nth,
        });
    }
    point.unwrap_or_else(|| panic!("there is no call {index}"))
}

/// Every `stride`th call; not the execve of the program itself, which strace lets pass.
pub(crate) fn every(calls: &[String], stride: usize) -> Vec<Point> {
    let indices = (1..calls.len()).step_by(stride);
    indices.map(|index| named(calls, index)).collect()
}
