// SPDX-License-Identifier: Apache-2.0
//! Processes by pidfd and by start time, so that a reused PID is never taken for the old process.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Stop};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{Error, Result};

/// A process held by a descriptor.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: OwnedFd,
}

/// How a process of ours ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Process {
    /// Takes hold of `pid`.
    pub fn open(pid: i32) -> Result<Self> {
        let call = format!("pidfd_open({pid})");
        let raw = Pid::from_raw(pid).ok_or_else(|| {
            Error::new(
                &call,
                io::Error::new(io::ErrorKind::InvalidInput, "not a PID"),
            )
        })?;
        let fd = rustix::process::pidfd_open(raw, PidfdFlags::empty())
            .map_err(|err| Error::new(call, err))?;
        Ok(Self { pid, fd })
    }

    /// Its PID.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended, reaped or not.
    pub fn has_ended(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())) == Ok(1)
    }

    /// The descriptor, for a program that is to hold the process further.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends a signal; a process that has ended is success.
    pub fn signal(&self, number: i32) -> Result<()> {
        let call = format!("pidfd_send_signal({}, {number})", self.pid);
        let signal = Signal::from_named_raw(number).ok_or_else(|| {
            Error::new(
                &call,
                io::Error::new(io::ErrorKind::InvalidInput, "not a signal"),
            )
        })?;
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(err) => Err(Error::new(call, err)),
        }
    }

    /// Waits for the end of a child, or of a grandchild that came to this process as subreaper.
    pub fn wait(&self) -> Result<Ended> {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        loop {
            match waitid(WaitId::PidFd(self.fd.as_fd()), WaitIdOptions::EXITED) {
                Ok(Some(status)) => {
                    return Ok(match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ended::Exited(code),
                        (None, signal) => Ended::Signaled(signal.unwrap_or_default()),
                    });
                }
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(Error::new(format!("waitid({})", self.pid), err)),
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// While it lives, this thread and those it starts are not stopped by a terminal (Ctrl-Z, or reading
/// and writing in the background); afterwards they are, if one wanted to. SIGSTOP stops all the same.
#[derive(Debug)]
pub struct HeldStops {
    before: SigSet,
}

impl HeldStops {
    /// Begins.
    pub fn hold() -> Result<Self> {
        let stops: SigSet = [Stop::SIGTSTP, Stop::SIGTTIN, Stop::SIGTTOU]
            .into_iter()
            .collect();
        let before = stops
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(|errno| Error::new("sigprocmask(SIG_BLOCK, TSTP)", errno))?;
        Ok(Self { before })
    }
}

impl Drop for HeldStops {
    fn drop(&mut self) {
        // It cannot fail: the mask is one that the kernel gave.
        self.before.thread_set_mask().ok();
    }
}

/// When a process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
pub fn start_ticks(pid: i32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let text = super::fs::read_to_string(Path::new(&path))?;
    // The command, field 2, may hold anything, parentheses too; the last one closes it.
    text.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| {
            let err = io::Error::new(io::ErrorKind::InvalidData, "no start time");
            Error::new(format!("read({path:?})"), err)
        })
}

/// Whether `name` is that of a temporary file, `PREFIX` and a PID, which nobody is at any more. A PID
/// of our own is an earlier process's: nobody asks while they have such a file.
pub fn is_left_over(name: &OsStr, prefix: &str) -> bool {
    let rest = name.to_str().and_then(|name| name.strip_prefix(prefix));
    // What a process makes several of goes on with a number.
    let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<i32>().ok());
    pid.is_some_and(|pid| u32::try_from(pid) == Ok(std::process::id()) || start_ticks(pid).is_err())
}

/// The kernel's id of this boot (random(4)).
pub fn boot_id() -> Result<String> {
    let text = super::fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(text.trim().to_owned())
}

/// The name of a signal without `SIG`, as systemd writes it in `$EXIT_STATUS`.
pub fn signal_name(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().trim_start_matches("SIG").to_owned(),
        Err(_) => number.to_string(),
    }
}

/// Makes this process the one that orphans below it come to (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|err| Error::new("prctl(PR_SET_CHILD_SUBREAPER)", err))
}

/// Lets this process open as many files as it may: walking a deep tree takes one for each level.
pub fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).map_err(|err| Error::new("setrlimit(RLIMIT_NOFILE)", err))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_by_descriptor() {
        #[expect(
            clippy::disallowed_methods,
            clippy::zombie_processes,
            reason = "a child to wait for"
        )]
        let child = std::process::Command::new("/bin/sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(start_ticks(process.pid()).unwrap() > 0);
        assert!(!process.has_ended());
        process.signal(libc::SIGTERM).unwrap();
        assert_eq!(process.wait().unwrap(), Ended::Signaled(libc::SIGTERM));
        assert!(process.has_ended());
        process.signal(libc::SIGTERM).unwrap();
        assert!(start_ticks(process.pid()).unwrap_err().is_absent());
        assert!(Process::open(0).is_err());
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
