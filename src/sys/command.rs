// SPDX-License-Identifier: Apache-2.0
//! Running a program to its end, or while its output is read ([`stream`]).
//!
//! The only place that spawns: standard error is captured for the error message, output is
//! bounded, argv is traced, and a deadline kills the whole process group.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command as StdCommand, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::process::Process;
use super::{Error, Result};

pub mod stream;

/// Most that is kept of a program's standard output or error: 1 MiB. The rest is read and dropped,
/// so that the program does not block.
const OUTPUT_MAX_BYTES: usize = 1 << 20;

/// A program to run.
#[derive(Debug)]
pub struct Command {
    inner: StdCommand,
    stdin: Option<Vec<u8>>,
    deadline: Option<Duration>,
    own_output: bool,
}

/// Finds a program as execvp(3) would: on PATH, unless the name holds a '/'.
///
/// # Errors
///
/// `NotFound` when there is none.
pub fn find_program(name: &Path) -> Result<PathBuf> {
    let absent = || {
        let call = format!("exec({:?})", name.display());
        Error::new(
            call,
            io::Error::new(io::ErrorKind::NotFound, "no such program"),
        )
    };
    let is_program = |path: &Path| {
        let metadata = std::fs::metadata(path);
        metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return is_program(name).then(|| name.to_owned()).ok_or_else(absent);
    }
    // systemd's own default, for a caller without PATH.
    let path = std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|candidate| is_program(candidate))
        .ok_or_else(absent)
}

/// What a program left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output, at most 1 MiB.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, at most 1 MiB, as text.
    pub stderr: String,
}

impl Command {
    /// `program`, found on PATH unless it holds a '/'; standard input is empty.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut inner = StdCommand::new(program);
        inner.stdin(Stdio::null());
        // A group of its own, so that a deadline reaches its children too.
        inner.process_group(0);
        // What the service manager told us is not for children: an OCI runtime that sees
        // NOTIFY_SOCKET waits for the container to say READY.
        for key in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"] {
            inner.env_remove(key);
        }
        Self {
            inner,
            stdin: None,
            deadline: None,
            own_output: false,
        }
    }

    /// Adds one argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&mut self, args: I) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// Sets one variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// Removes one variable.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// Starts the program with SIGPIPE ignored, where the standard library would reset it.
    pub fn ignore_sigpipe(&mut self) -> &mut Self {
        let ignore = || {
            // SAFETY: signal(2) is async-signal-safe, and SIG_IGN is no function of ours.
            #[expect(unsafe_code, reason = "the standard library has no way to say this")]
            let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
            if before == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        #[expect(unsafe_code, reason = "pre_exec runs in the forked child")]
        unsafe {
            self.inner.pre_exec(ignore);
        }
        self
    }

    /// Starts from an empty environment.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// Writes `bytes` to standard input, then closes it.
    pub fn stdin_bytes(&mut self, bytes: Vec<u8>) -> &mut Self {
        self.stdin = Some(bytes);
        self.inner.stdin(Stdio::piped());
        self
    }

    /// Kills the program's group after this long; the error's kind is `TimedOut`.
    pub fn deadline(&mut self, deadline: Duration) -> &mut Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives the program these descriptors as 0, 1 and 2 instead of capturing its output.
    pub fn stdio(&mut self, stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd) -> &mut Self {
        self.inner.stdin(stdin).stdout(stdout).stderr(stderr);
        self.own_output = true;
        self
    }

    /// Lets the program have every signal. std passes our mask on, and an OCI runtime may pass it
    /// on to the container. Only for those who block some: it costs them the faster posix_spawn(3).
    fn unblock_signals(&mut self) {
        if SigSet::thread_get_mask().is_ok_and(|mask| mask == SigSet::empty()) {
            return;
        }
        let unblock = || Ok(SigSet::empty().thread_set_mask()?);
        // SAFETY: the closure makes one system call and allocates nothing.
        #[expect(unsafe_code, reason = "pre_exec runs in the forked child")]
        unsafe {
            self.inner.pre_exec(unblock);
        }
    }

    fn describe(&self) -> String {
        let words: Vec<OsString> = std::iter::once(self.inner.get_program())
            .chain(self.inner.get_args())
            .map(OsStr::to_owned)
            .collect();
        let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
        words.join(" ")
    }

    /// Runs the program to its end, whatever its exit status.
    pub fn output(&mut self) -> Result<Output> {
        let call = format!("exec({:?})", self.describe());
        tracing::debug!("running {}", self.describe());
        if !self.own_output {
            self.inner.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        self.unblock_signals();
        #[expect(clippy::disallowed_methods, reason = "this is the module that spawns")]
        let child = self.inner.spawn().map_err(|err| Error::new(&call, err))?;
        wait(child, self.stdin.take(), self.deadline).map_err(|err| Error::new(&call, err))
    }

    /// Runs the program; an exit status other than 0 is an error that quotes its last words.
    pub fn run(&mut self) -> Result<Output> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output);
        }
        let call = format!("exec({:?})", self.describe());
        Err(Error::new(call, io::Error::other(output.complaint())))
    }
}

impl Output {
    /// How the program ended and the last line it wrote to standard error.
    pub fn complaint(&self) -> String {
        let ended = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        match self.stderr.trim().lines().last() {
            Some(line) => format!("{ended}: {line}"),
            None => ended,
        }
    }
}

/// Feeds, drains and waits, in one thread: none may be alive when this process forks again.
fn wait(
    mut child: Child,
    stdin: Option<Vec<u8>>,
    deadline: Option<Duration>,
) -> io::Result<Output> {
    let end = deadline.map(|deadline| Instant::now() + deadline);
    let mut pipes = Pipes::of(&mut child, stdin)?;
    while !pipes.are_closed() {
        if !pipes.turn(left(end))? {
            return Err(kill_group(&mut child, deadline));
        }
    }
    // Whoever closes its output may still run.
    let process = Process::open(child.id().cast_signed()).map_err(|err| err.cause)?;
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    if !poll_once(&mut fds, left(end))? {
        return Err(kill_group(&mut child, deadline));
    }
    Ok(Output {
        status: child.wait()?,
        stdout: pipes.stdout.bytes,
        stderr: String::from_utf8_lossy(&pipes.stderr.bytes).into_owned(),
    })
}

fn left(end: Option<Instant>) -> Option<Duration> {
    end.map(|end| end.saturating_duration_since(Instant::now()))
}

/// Waits for an event; false when there was none in time.
fn poll_once(fds: &mut [PollFd<'_>], left: Option<Duration>) -> io::Result<bool> {
    let end = left.map(|left| Instant::now() + left);
    loop {
        let timeout = self::left(end).map(Timespec::try_from).transpose();
        match poll(fds, timeout.map_err(io::Error::other)?.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Our ends of the program's pipes.
struct Pipes {
    stdin: Option<ChildStdin>,
    input: Vec<u8>,
    stdout: Captured,
    stderr: Captured,
}

/// One stream that is read to its end; what is beyond the bound is dropped.
#[derive(Default)]
struct Captured {
    pipe: Option<File>,
    bytes: Vec<u8>,
}

impl Pipes {
    fn of(child: &mut Child, input: Option<Vec<u8>>) -> io::Result<Self> {
        let captured = |fd: Option<OwnedFd>| Captured {
            pipe: fd.map(File::from),
            bytes: Vec::new(),
        };
        let stdin = child.stdin.take();
        if let Some(pipe) = &stdin {
            // A program that does not read must not keep us from reading what it says.
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self {
            stdin,
            input: input.unwrap_or_default(),
            stdout: captured(child.stdout.take().map(OwnedFd::from)),
            stderr: captured(child.stderr.take().map(OwnedFd::from)),
        })
    }

    fn are_closed(&self) -> bool {
        self.stdout.pipe.is_none() && self.stderr.pipe.is_none() && self.stdin.is_none()
    }

    /// Moves what can be moved now; false when nothing could within `left`.
    fn turn(&mut self, left: Option<Duration>) -> io::Result<bool> {
        let mut fds = Vec::with_capacity(3);
        fds.extend(
            self.stdout
                .pipe
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        fds.extend(
            self.stderr
                .pipe
                .iter()
                .map(|fd| PollFd::new(fd, PollFlags::IN)),
        );
        fds.extend(self.stdin.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        if !poll_once(&mut fds, left)? {
            return Ok(false);
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let stdout = self.stdout.pipe.is_some() && ready.next() == Some(true);
        let stderr = self.stderr.pipe.is_some() && ready.next() == Some(true);
        let stdin = self.stdin.is_some() && ready.next() == Some(true);
        drop(ready);
        if stdout {
            self.stdout.read();
        }
        if stderr {
            self.stderr.read();
        }
        if stdin {
            self.write();
        }
        Ok(true)
    }

    /// A program that does not read its input is judged by its exit status, not by this.
    fn write(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        match pipe.write(&self.input) {
            Ok(written) => drop(self.input.drain(..written)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => self.input.clear(),
        }
        if self.input.is_empty() {
            self.stdin = None;
        }
    }
}

impl Captured {
    /// What could be read before an error is what there is to show.
    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut buffer = [0; 8192];
        match pipe.read(&mut buffer) {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(count) => {
                let room = OUTPUT_MAX_BYTES.saturating_sub(self.bytes.len());
                self.bytes.extend(buffer.iter().take(count.min(room)));
            }
        }
    }
}

fn kill_group(child: &mut Child, deadline: Option<Duration>) -> io::Error {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // ESRCH: it has ended meanwhile, which is what we want.
    nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL).ok();
    drop(child.wait());
    let seconds = deadline.unwrap_or_default().as_secs_f64();
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no end after {seconds} s, killed"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn run_reports_status_and_last_words() {
        assert_eq!(
            sh("cat").stdin_bytes(b"hi".to_vec()).run().unwrap().stdout,
            b"hi"
        );
        let err = sh("echo one >&2; echo two >&2; exit 3").run().unwrap_err();
        assert!(err.to_string().ends_with("exit status 3: two"), "{err}");
        assert!(Command::new("/nonexistent").run().unwrap_err().is_absent());
    }

    #[test]
    fn a_deadline_kills_the_group() {
        let err = sh("sleep 100 & sleep 100")
            .deadline(Duration::from_millis(50))
            .run()
            .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_deadline_holds_for_a_program_without_output() {
        let err = sh("exec >&- 2>&- sleep 100")
            .deadline(Duration::from_millis(50))
            .run()
            .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn input_larger_than_a_pipe_is_fed_while_output_is_read() {
        let input = vec![b'x'; 1 << 20];
        let output = sh("cat").stdin_bytes(input.clone()).run().unwrap();
        assert!(output.stdout == input);
        let unread = sh("echo ok").stdin_bytes(input).run().unwrap();
        assert_eq!(unread.stdout, b"ok\n");
    }

    #[test]
    fn output_is_bounded() {
        let output = sh("head -c 3000000 /dev/zero").run().unwrap();
        assert_eq!(output.stdout.len(), OUTPUT_MAX_BYTES);
    }
}
