// SPDX-License-Identifier: Apache-2.0
//! `wharf image …` through the real binary, on a store below a root of its own.

use std::path::Path;

use serde_json::Value;
use wharf::sys::command::{Command, Output};

pub fn run(root: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command.arg("--root").arg(root).arg("image").args(args);
    command.output().unwrap()
}

/// Standard output of a command that succeeds.
pub fn ok(root: &Path, args: &[&str]) -> String {
    let output = run(root, args);
    assert!(output.status.success(), "{args:?}: {}", output.stderr);
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that exits with 1.
pub fn fails(root: &Path, args: &[&str]) -> String {
    let output = run(root, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", output.stderr);
    output.stderr
}

pub fn json(root: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&ok(root, args)).unwrap()
}
