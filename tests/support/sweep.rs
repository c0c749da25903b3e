// SPDX-License-Identifier: Apache-2.0
//! Killing a command of the store, or failing it, at one system call after the other
//! (threats, rigs KILL and FS).
//!
//! A good run is traced first; its calls are the points. strace counts the calls of each thread and
//! each name apart, so a point is a name and a number, and the thread that comes to it first is hit.
//! Production code has no failpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use wharf::sys::command::{Command, Output};

/// The `nth` call of `call` in whichever thread comes to it first, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub call: String,
    pub nth: usize,
}

impl Point {
    /// Whether a call that only reads is hit.
    pub fn reads(&self) -> bool {
        READING.contains(&self.call.as_str())
    }
}

/// How a disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Whatever needs room finds none.
    Full,
    /// Nothing can be relied on, reading neither.
    Broken,
}

impl Fault {
    /// As strace names it.
    fn error(self) -> &'static str {
        match self {
            Self::Full => "ENOSPC",
            Self::Broken => "EIO",
        }
    }

    /// What the program has to say.
    pub fn text(self) -> &'static str {
        match self {
            Self::Full => "No space left on device",
            Self::Broken => "Input/output error",
        }
    }

    fn hits(self, call: &str) -> bool {
        WRITING.contains(&call) || (self == Self::Broken && READING.contains(&call))
    }
}

/// Calls that read files and directories.
const READING: &[&str] = &["read", "readv", "pread64", "getdents64"];

/// Calls that write, make, rename, remove or flush.
const WRITING: &[&str] = &[
    "write",
    "writev",
    "pwrite64",
    "copy_file_range",
    "sendfile",
    "ftruncate",
    "fallocate",
    "openat",
    "mkdir",
    "mkdirat",
    "mknodat",
    "symlinkat",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "fsetxattr",
    "fchown",
    "fchownat",
    "fchmod",
    "fchmodat",
    "utimensat",
    "fsync",
    "fdatasync",
    "syncfs",
    "close",
];

fn strace(options: &[&str], program: &[&str]) -> Output {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq"]).args(options);
    strace.args(program).output().unwrap()
}

/// The calls of a run of `program`, thread by thread.
fn traced(program: &[&str], scratch: &Path) -> Vec<Vec<String>> {
    let trace = scratch.join("trace");
    strace(&["-o", trace.to_str().unwrap()], program);
    let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
    let mut threads: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let call = call.trim_start();
        // Signals, exits, and the ends of calls that were interrupted by another thread's.
        if call.starts_with(|c: char| c.is_ascii_lowercase()) {
            threads.entry(thread).or_default().push(call.to_owned());
        }
    }
    threads.into_values().collect()
}

fn points(threads: &[Vec<String>], wanted: impl Fn(&str, &str) -> bool) -> Vec<Point> {
    let mut points = BTreeSet::new();
    for calls in threads {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for line in calls {
            let call = line.split('(').next().unwrap_or_default();
            let nth = seen.entry(call).or_default();
            *nth += 1;
            if wanted(call, line) {
                points.insert(Point {
                    call: call.to_owned(),
                    nth: *nth,
                });
            }
        }
    }
    points.into_iter().collect()
}

/// Some `most` of the points, or every one of a stride that the variable `stride` gives.
fn chosen(all: Vec<Point>, most: usize, stride: &str) -> Vec<Point> {
    let given = std::env::var(stride).ok().map(|text| text.parse().unwrap());
    let step = given.unwrap_or(all.len() / most).max(1);
    all.into_iter().step_by(step).collect()
}

/// Where to kill `program`: `WHARF_KILL_STRIDE=1` is everywhere.
pub fn kill_points(program: &[&str], scratch: &Path, most: usize) -> Vec<Point> {
    let threads = traced(program, scratch);
    let ends = ["execve", "exit", "exit_group", "restart_syscall"];
    let all = points(&threads, |call, _| !ends.contains(&call));
    assert!(all.len() > 100, "{all:?}");
    chosen(all, most, "WHARF_KILL_STRIDE")
}

/// Where a disk can fail `program`: `WHARF_FAULT_STRIDE=1` is everywhere.
pub fn fault_points(program: &[&str], scratch: &Path, most: usize, fault: Fault) -> Vec<Point> {
    let threads = traced(program, scratch);
    let all = points(&threads, |call, line| {
        fault.hits(call) && (call != "openat" || line.contains("O_CREAT"))
    });
    assert!(all.len() > 5, "{all:?}");
    chosen(all, most, "WHARF_FAULT_STRIDE")
}

/// Runs `program` and kills it at `point`.
pub fn killed(program: &[&str], point: &Point) -> Output {
    let Point { call, nth } = point;
    injected(
        call,
        &format!("inject={call}:signal=KILL:when={nth}"),
        program,
    )
}

/// Runs `program` and lets the call at `point` fail.
pub fn failed(program: &[&str], point: &Point, fault: Fault) -> Output {
    let Point { call, nth } = point;
    let error = fault.error();
    injected(
        call,
        &format!("inject={call}:error={error}:when={nth}"),
        program,
    )
}

fn injected(call: &str, inject: &str, program: &[&str]) -> Output {
    // Only that call stops, the others run as always.
    let trace = format!("trace={call}");
    let options = ["-o", "/dev/null", "-e", &trace, "-e", inject];
    strace(&options, program)
}
