// SPDX-License-Identifier: Apache-2.0
//! A control group with a limit of memory, for a program that must do with it.
//!
//! Counted are its own memory, the files it writes to a tmpfs, their inodes and directories, and the
//! pages of files it reads; what cannot be given back beyond the limit ends in an OOM kill. Made in the
//! hierarchy of the memory controller, whichever version of cgroups has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use wharf::sys::command::Command;

/// The control group; gone when dropped.
pub struct Cage {
    dir: PathBuf,
    peak: &'static str,
}

impl Cage {
    pub fn new(bytes: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharf-test-{}-{number}", std::process::id());
        let old = Path::new("/sys/fs/cgroup/memory");
        let (dir, limit, peak) = if old.exists() {
            let names = ("memory.limit_in_bytes", "memory.max_usage_in_bytes");
            (old.join(name), names.0, names.1)
        } else {
            let root = Path::new("/sys/fs/cgroup");
            fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
            (root.join(name), "memory.max", "memory.peak")
        };
        fs::create_dir(&dir).unwrap();
        let cage = Self { dir, peak };
        fs::write(cage.dir.join(limit), bytes.to_string()).unwrap();
        cage
    }

    /// A command that runs `program` in here.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]);
        command.arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// The most that was in use until now, all of it, in KiB.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join(self.peak)).unwrap();
        text.trim().parse::<u64>().unwrap() >> 10
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        drop(fs::remove_dir(&self.dir));
    }
}
