// SPDX-License-Identifier: Apache-2.0
//! Staying with a process: its signals, its terminal, its end, in one poll loop.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios};

use super::process::{Ended, Process};
use super::{Error, Result};

/// Signals a person or a script sends to wharf and means for the container.
const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// Signals taken from the default handling, to be read one by one.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the forwarded signals and SIGWINCH in this process; programs that it starts have
    /// them unblocked ([`super::command`]).
    pub fn block() -> Result<Self> {
        let mut set: SigSet = FORWARDED.into_iter().collect();
        set.add(Signal::SIGWINCH);
        let failed = |errno: nix::errno::Errno| Error::new("signalfd()", errno);
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Self).map_err(failed)
    }
}

/// A terminal in raw mode; as it was again on drop.
#[derive(Debug)]
struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    fn enter(terminal: BorrowedFd<'a>) -> Result<Self> {
        let failed = |err| Error::new("tcsetattr()", err);
        let before = rustix::termios::tcgetattr(terminal).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(terminal, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that has gone needs no mode.
        rustix::termios::tcsetattr(self.terminal, OptionalActions::Now, &self.before).ok();
    }
}

/// Stays with `process` until it ends, forwarding signals, and bytes between this process's
/// standard streams and `console`, the master of the process's terminal.
pub fn stay_with(process: &Process, signals: &Signals, console: Option<&OwnedFd>) -> Result<Ended> {
    let stdin = io::stdin();
    let stdin = stdin.as_fd();
    let mut _raw = None;
    if console.is_some() && rustix::termios::isatty(stdin) {
        _raw = Some(Raw::enter(stdin)?);
    }
    let mut reading = console.is_some();
    loop {
        let mut fds = vec![
            PollFd::new(process, PollFlags::IN),
            PollFd::new(&signals.0, PollFlags::IN),
        ];
        if let Some(console) = console {
            fds.push(PollFd::new(console, PollFlags::IN));
            if reading {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(|err| Error::new("poll()", err))?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
        if is_ready(1) {
            forward(process, signals, console)?;
        }
        let mut idle = true;
        if let Some(console) = console {
            if is_ready(2) {
                idle = !copy(console.as_fd(), io::stdout().as_fd());
            }
            if is_ready(3) {
                reading = copy(stdin, console.as_fd());
            }
        }
        // Its last words first.
        if is_ready(0) && idle {
            return process.wait();
        }
    }
}

fn forward(process: &Process, signals: &Signals, console: Option<&OwnedFd>) -> Result<()> {
    while let Ok(Some(info)) = signals.0.read_signal() {
        let number = i32::try_from(info.ssi_signo).unwrap_or_default();
        if number == Signal::SIGWINCH as i32 {
            console.map(resize);
        } else {
            process.signal(number)?;
        }
    }
    Ok(())
}

/// Gives the console the size of our own terminal, if we have one.
pub fn resize(console: &OwnedFd) {
    if let Ok(size) = rustix::termios::tcgetwinsize(io::stdout()) {
        rustix::termios::tcsetwinsize(console, size).ok();
    }
}

/// Moves what is there; false at the end of the source. EIO is how a terminal's master says that
/// no process has the other side open.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0_u8; 8192];
    let Ok(count) = rustix::io::read(from, &mut buffer) else {
        return false;
    };
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    count > 0
}
