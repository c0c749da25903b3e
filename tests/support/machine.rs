// SPDX-License-Identifier: Apache-2.0
//! A user-mode-linux machine for an integration test: `#[path = "support/machine.rs"] mod machine;`.
//!
//! What the namespace lab cannot show everywhere: cgroup limits, a real OOM kill, a reboot, a power
//! cut. One run boots in about ten seconds on an idle machine, so a test does much in one run. Name
//! the test binary `machine_….rs`, so that nextest runs one machine at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use wharf::sys::command::Command;

/// Exit status of a run that was ended by a power cut.
pub(crate) const POWER_CUT: i32 = 124;

/// Longest that one run may take, the making of the disk included.
const RUN_DEADLINE: Duration = Duration::from_secs(900);

/// A disk that outlives a run; the file is removed on drop.
#[derive(Debug)]
pub(crate) struct Disk {
    name: String,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    /// The script's exit status, or [`POWER_CUT`].
    pub(crate) status: Option<i32>,
    /// What the script wrote, standard error included.
    pub(crate) output: String,
    /// What the machine lab itself says, and the console when the machine failed.
    pub(crate) complaint: String,
}

impl Run {
    /// The output after each line `@@ NAME`, by name; what comes before the first is dropped.
    pub(crate) fn sections(&self) -> BTreeMap<&str, &str> {
        let sections = self.output.split("@@ ").skip(1);
        sections
            .map(|section| section.split_once('\n').unwrap_or((section, "")))
            .map(|(name, text)| (name, text.trim_end()))
            .collect()
    }
}

impl Disk {
    /// A fresh disk of its own for the test `test`.
    pub(crate) fn new(test: &str) -> Self {
        let disk = Self {
            name: format!("{test}-{}", std::process::id()),
        };
        disk.forget();
        disk
    }

    /// Runs `script` on this disk; what it has written is there for the next run.
    pub(crate) fn run(&self, script: &str, options: &[&str]) -> Run {
        run(script, &[&["--disk", &self.name], options].concat())
    }

    fn forget(&self) {
        machine().args(["forget", &self.name]).run().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Boots a machine with the built wharf installed, runs `script` in it as root, and powers it off.
/// `options` are those of `tests/rig/machine run`.
pub(crate) fn run(script: &str, options: &[&str]) -> Run {
    let file = tempfile::NamedTempFile::new().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(file.path(), script).unwrap();
    let output = machine()
        .arg("run")
        .arg(file.path())
        .args(options)
        .output()
        .unwrap();
    Run {
        status: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        complaint: output.stderr,
    }
}

/// Makes an image of busybox at `path` on the host, named by mkimage's options (`--help`).
pub(crate) fn busybox_image(path: &Path, options: &[&str]) {
    let rootfs = machine().args(["rootfs", "trixie"]).run().unwrap();
    let rootfs = String::from_utf8(rootfs.stdout).unwrap();
    make_image(
        path,
        &[&["busybox", "--rootfs", rootfs.trim_end()], options].concat(),
    );
}

/// Runs mkimage.
pub(crate) fn make_image(path: &Path, args: &[&str]) {
    Command::new(source().join("tests/rig/mkimage"))
        .args(args)
        .arg("--output")
        .arg(path)
        .run()
        .unwrap();
}

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn machine() -> Command {
    let build = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap();
    let mut command = Command::new(source().join("tests/rig/machine"));
    command.env("WHARF_BUILD", build).deadline(RUN_DEADLINE);
    command
}
