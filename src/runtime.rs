// SPDX-License-Identifier: Apache-2.0
//! The OCI runtime as a command: create, start, kill, delete (runtime-spec, "Operations").
//!
//! crun and runc take the same words. Their own messages go to a log file of ours, because their
//! standard error is the container's. What they answer is bounded and has a deadline, and
//! NOTIFY_SOCKET never reaches them: both would wait for the container's own READY (threats X11).

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::name::ContainerId;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::sys;
use crate::sys::command::Command;

/// Longest that one call of the runtime may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Largest config.json that is read; the biggest that wharf renders are a tenth of it.
const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Runtimes looked for on PATH, the preferred one first: crun starts in half of runc's time.
const CANDIDATES: [&str; 2] = ["crun", "runc"];

/// An OCI runtime and where it keeps its state.
#[derive(Debug, Clone)]
pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
}

/// The first process's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// These descriptors become 0, 1 and 2.
    Fds([OwnedFd; 3]),
    /// A terminal, whose master the runtime sends to this socket.
    Console(PathBuf),
}

impl Runtime {
    /// The runtime that the settings name, or the first candidate on PATH.
    ///
    /// # Errors
    ///
    /// None is installed; the message says what to install or set.
    pub fn find(settings: &Settings, paths: &Paths) -> anyhow::Result<Self> {
        let program = match &settings.runtime {
            Some(named) => sys::command::find_program(named)
                .with_context(|| format!("looking for runtime '{}'", named.display()))?,
            None => CANDIDATES
                .iter()
                .find_map(|name| sys::command::find_program(Path::new(name)).ok())
                .context(
                    "no OCI runtime on PATH: install crun or runc, or set runtime= in wharf.toml",
                )?,
        };
        Ok(Self::at(program, paths))
    }

    /// The runtime at `program`, as a run-time record names it.
    pub fn at(program: PathBuf, paths: &Paths) -> Self {
        Self {
            program,
            root: paths.runtime_root(),
        }
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self, log: Option<&Path>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            // crun 1.21 dies of SIGPIPE when a hook ends without reading its standard input. The
            // container's own disposition is the default again.
            .ignore_sigpipe()
            .arg("--root")
            .arg(&self.root)
            .deadline(DEADLINE);
        // runc has no such option: it takes cgroupfs unless told to use systemd.
        if self.program.file_name().is_some_and(|name| name == "crun") {
            command.arg("--cgroup-manager=cgroupfs");
        }
        if let Some(log) = log {
            command.arg("--log").arg(log).args(["--log-format", "json"]);
        }
        command
    }

    /// Creates the container of a bundle; its init is stopped before the program. Returns its PID.
    pub fn create(&self, id: &ContainerId, bundle: &Path, stdio: Stdio) -> anyhow::Result<i32> {
        let pid_file = bundle.join("pid");
        let log = bundle.join("runtime.log");
        let mut command = self.command(Some(&log));
        command.arg("create").arg("--bundle").arg(bundle);
        command.arg("--pid-file").arg(&pid_file);
        match stdio {
            Stdio::Fds([stdin, stdout, stderr]) => {
                command.stdio(stdin, stdout, stderr);
            }
            Stdio::Console(socket) => {
                command.arg("--console-socket").arg(socket);
            }
        }
        command.arg(id.as_str());
        let output = command.output()?;
        if !output.status.success() {
            bail!(
                "{} create: {}",
                self.program.display(),
                complaint(&log).unwrap_or_else(|| output.complaint())
            );
        }
        let text = sys::fs::read_to_string(&pid_file)?;
        text.trim()
            .parse()
            .with_context(|| format!("reading the PID that {} wrote", self.program.display()))
    }

    /// Lets the created container's program run.
    pub fn start(&self, id: &ContainerId, bundle: &Path) -> anyhow::Result<()> {
        let log = bundle.join("runtime.log");
        let mut command = self.command(Some(&log));
        let output = command.arg("start").arg(id.as_str()).output()?;
        if output.status.success() {
            return Ok(());
        }
        bail!(
            "{} start: {}",
            self.program.display(),
            complaint(&log).unwrap_or_else(|| output.complaint())
        );
    }

    /// Whether the runtime keeps state of the container.
    pub fn knows(&self, id: &ContainerId) -> bool {
        self.root.join(id.as_str()).exists()
    }

    /// Forgets a container whose processes have ended and whose cgroup the caller removes; absent
    /// is success.
    ///
    /// That leaves of `delete` the removal of the runtime's own directory, which needs no program,
    /// unless there are hooks of the configuration to run.
    pub fn forget(&self, id: &ContainerId, bundle: &Path) -> anyhow::Result<()> {
        if has_poststop_hooks(&bundle.join("config.json")) {
            return self.delete(id);
        }
        Ok(sys::fs::remove_tree(&self.root.join(id.as_str()))?)
    }

    /// Kills and forgets the container, whatever state it is in; absent is success.
    pub fn delete(&self, id: &ContainerId) -> anyhow::Result<()> {
        if !self.knows(id) {
            return Ok(());
        }
        let mut command = self.command(None);
        let result = command.args(["delete", "--force", id.as_str()]).run();
        // A runtime that was killed half-way leaves a directory that it cannot read itself.
        sys::fs::remove_tree(&self.root.join(id.as_str()))?;
        match result {
            // It ran and could not: there was nothing it could read. What is left of the container
            // are processes in its cgroup, and those are the caller's to kill.
            Err(err) if err.kind() != std::io::ErrorKind::Other => Err(err.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Runs a command in the container to its end (`exec`), as the user of its first process, with a
    /// deadline.
    pub fn exec(
        &self,
        id: &ContainerId,
        args: &[String],
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let mut command = self.command(None);
        let words = args.iter().map(OsString::from);
        command.arg("exec").arg(id.as_str()).args(words);
        command.deadline(deadline).run()?;
        Ok(())
    }
}

/// What of config.json says whether `delete` has hooks to run: a precreate hook may add some.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    hooks: Hooks,
}

#[derive(Default, Deserialize)]
struct Hooks {
    #[serde(default)]
    poststop: Vec<IgnoredAny>,
}

/// Whether the OCI runtime has hooks to run after the container; a configuration that cannot be
/// read may have some.
fn has_poststop_hooks(config: &Path) -> bool {
    let read = sys::fs::read_limited(config, CONFIG_MAX_BYTES).ok();
    let config = read.and_then(|bytes| serde_json::from_slice::<Config>(&bytes).ok());
    config.is_none_or(|config| !config.hooks.poststop.is_empty())
}

/// One line of the runtime's JSON log.
#[derive(Deserialize)]
struct LogLine {
    msg: String,
}

/// The runtime's last message.
fn complaint(log: &Path) -> Option<String> {
    let bytes = sys::fs::read_limited(log, 1 << 20).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().rfind(|line| !line.trim().is_empty())?;
    match serde_json::from_str::<LogLine>(last) {
        Ok(line) => Some(line.msg),
        Err(_) => Some(last.to_owned()),
    }
}
