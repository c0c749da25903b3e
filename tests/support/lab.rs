// SPDX-License-Identifier: Apache-2.0
//! A booted lab for an integration test: `#[path = "support/lab.rs"] mod lab;`.
//!
//! Each [`Lab`] is a real systemd in namespaces of its own, with the wharf that cargo has just
//! built installed in it, made by `tests/lab/lab` and gone when dropped. Name the test binary
//! `lab_….rs`, so that nextest runs only two labs at once (.config/nextest.toml).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use wharf::sys::command::{Command, Output};

/// Longest a command in a lab may take. A hung one is a failure, with its command in the message.
const EXEC_DEADLINE: Duration = Duration::from_secs(300);

/// Longest that bringing a lab up may take; the first one of a suite downloads Debian.
const UP_DEADLINE: Duration = Duration::from_secs(900);

/// Journal lines shown when a test fails.
const JOURNAL_TAIL: &str = "60";

/// The Debian release a lab is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Debian 13: systemd 257, crun 1.21.
    Trixie,
    /// Debian 12: systemd 252, crun 1.8, runc 1.1.
    Bookworm,
}

impl Suite {
    /// Both, for tests that loop.
    pub(crate) const ALL: [Self; 2] = [Self::Trixie, Self::Bookworm];

    /// As `tests/lab/lab up --suite` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Bookworm => "bookworm",
        }
    }
}

/// A running lab. Dropping it takes it down.
#[derive(Debug)]
pub(crate) struct Lab {
    name: String,
    suite: Suite,
    root: PathBuf,
}

impl Lab {
    /// Boots a lab and installs wharf in it.
    pub(crate) fn up(suite: Suite) -> Self {
        let lab = Self::up_bare(suite);
        lab.verb(&["install"]).run().unwrap();
        lab
    }

    /// Boots a lab without wharf.
    pub(crate) fn up_bare(suite: Suite) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // nextest runs every test in a process of its own, `cargo test` all in one.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let mut lab = Self {
            name,
            suite,
            root: PathBuf::new(),
        };
        lab.verb(&["up", "--suite", suite.name()])
            .deadline(UP_DEADLINE)
            .run()
            .unwrap();
        let root = lab.verb(&["root"]).run().unwrap();
        lab.root = PathBuf::from(text(&root.stdout).trim_end());
        lab
    }

    /// Its name, which is also its host name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its Debian release.
    pub(crate) fn suite(&self) -> Suite {
        self.suite
    }

    /// The path on the host of `path`, an absolute path in the lab.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Runs `tests/lab/lab` on this lab.
    pub(crate) fn verb(&self, args: &[&str]) -> Command {
        let mut command = Command::new(source().join("tests/lab/lab"));
        // The programs that cargo built for this very test run.
        let build = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap();
        command
            .args(args)
            .env("LAB", &self.name)
            .env("WHARF_BUILD", build)
            .deadline(EXEC_DEADLINE);
        command
    }

    /// Runs a command as root, whatever its exit status.
    pub(crate) fn exec(&self, command: &[&str]) -> Output {
        let args = [&["exec", "--"], command].concat();
        self.verb(&args).output().unwrap()
    }

    /// Runs a shell script as root, whatever its exit status.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.exec(&["bash", "-c", script])
    }

    /// Runs a shell script that must succeed, and returns its standard output without the last
    /// line break.
    pub(crate) fn ok(&self, script: &str) -> String {
        let output = self.sh(&format!("set -e; {script}"));
        assert!(
            output.status.success(),
            "`{script}` in lab {}: {}\nstandard output:\n{}\nstandard error:\n{}",
            self.name,
            output.complaint(),
            text(&output.stdout),
            output.stderr,
        );
        text(&output.stdout).trim_end().to_owned()
    }

    /// Waits until a shell script succeeds. Only for what has no event to wait for.
    pub(crate) fn wait_for(&self, script: &str) {
        self.ok(&format!(
            "for _ in $(seq 300); do if {script}; then exit; fi; sleep 0.1; done; \
             echo 'not within 30 seconds' >&2; exit 1"
        ));
    }

    /// One property of a unit, as `systemctl show` prints it.
    pub(crate) fn property(&self, unit: &str, property: &str) -> String {
        let output = self.exec(&["systemctl", "show", "--property", property, "--value", unit]);
        text(&output.stdout).trim_end().to_owned()
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let host = self.path(path);
        std::fs::create_dir_all(host.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(host, content).unwrap();
    }

    /// Reads a file of text.
    pub(crate) fn read(&self, path: &str) -> String {
        text(&std::fs::read(self.path(path)).unwrap())
    }

    /// Makes an image of busybox at `path` in the lab, named by mkimage's options (`--help`).
    pub(crate) fn busybox_image(&self, path: &str, options: &[&str]) {
        Command::new(source().join("tests/rig/mkimage"))
            .arg("busybox")
            .arg("--rootfs")
            .arg(&self.root)
            .arg("--output")
            .arg(self.path(path))
            .args(options)
            .run()
            .unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let tail = self.verb(&["logs", "--lines", JOURNAL_TAIL]).output();
            let tail = tail.map(|o| text(&o.stdout)).unwrap_or_default();
            eprintln!("the journal of lab {} ends with\n{tail}", self.name);
        }
        // A lab that does not go away is a failure of its own, but must not hide the first one.
        match self.verb(&["down"]).run() {
            Ok(_) => {}
            Err(err) if std::thread::panicking() => eprintln!("{err}"),
            Err(err) => panic!("{err}"),
        }
    }
}

/// The source tree.
pub(crate) fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Bytes as text, for messages and comparisons.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
