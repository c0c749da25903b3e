// SPDX-License-Identifier: Apache-2.0
//! The process that waits for the worker, and starts another if it is killed.
//!
//! It owns everything the worker needs and touches none of it, so that a new worker goes on where
//! the old one was stopped: bytes are in the FIFO or on the journal stream, and both are the same
//! as before. With the guard gone the worker has nothing to lose but its replacement.

use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::journal::stream::Header;
use crate::sys::inherit::{self, Half};
use crate::sys::lifeline::Lifeline;
use crate::sys::socket::Address;

use super::buffer::Kind;
use super::flow::Flow;
use super::invocation::{self, Invocation};
use super::proxy::Proxy;
use super::report::{self, Entry};
use super::worker::Worker;

/// A worker that ended sooner is not replaced at once, so that one that cannot work does not keep
/// the machine busy.
const LIVED: Duration = Duration::from_secs(1);

/// The pause then.
const PAUSE: Duration = Duration::from_secs(1);

/// wharf-relay from beginning to end.
pub fn main() -> ExitCode {
    let invocation = match Invocation::parse(std::env::args_os().skip(1)) {
        Ok(invocation) => invocation,
        Err(err) => {
            invocation::complain(&format!("{err:#}"));
            return ExitCode::from(2);
        }
    };
    match guard(invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            invocation::complain(&format!("{err:#}"));
            ExitCode::FAILURE
        }
    }
}

fn guard(invocation: Invocation) -> anyhow::Result<()> {
    inherit::block_signals().context("blocking signals")?;
    let Invocation {
        unit,
        identifier,
        main,
        stdout,
        stderr,
        console,
        // Owning it is all there is to do.
        stdin: _stdin,
        notify,
        lifeline,
        stderr_priority,
    } = invocation;
    let header = |priority| Header {
        identifier: &identifier,
        unit: &unit,
        priority,
    };
    let (first, kind) = match console {
        Some(console) => (Some(console), Kind::Console),
        None => (stdout, Kind::Fifo),
    };
    let proxy = match notify {
        None => None,
        Some(notify) => {
            let manager = Address::parse(&notify.manager).context("reading '--manager'")?;
            Some(Proxy::new(notify.socket, manager, &unit))
        }
    };
    let mut worker = Worker {
        main,
        main_ended: false,
        flows: [
            first.map(|fd| Flow::new(fd, kind, header(6))),
            stderr.map(|fd| Flow::new(fd, Kind::Fifo, header(stderr_priority))),
        ],
        proxy,
    };
    keep_working(&mut worker, &unit, lifeline)
}

/// Returns in the worker when its work is done, and in the guard when there is no work left.
fn keep_working(
    worker: &mut Worker<'_>,
    unit: &str,
    mut lifeline: Option<Lifeline>,
) -> anyhow::Result<()> {
    loop {
        let started = Instant::now();
        let child = match inherit::split() {
            Ok(Half::Child) => {
                // Either half may be killed before the other comes to say that all is well.
                drop(lifeline);
                rustix::thread::set_name(c"wharf-relay").ok();
                return worker.run().context("relaying");
            }
            Ok(Half::Parent(child)) => {
                drop(lifeline.take());
                child
            }
            // No process to be had, perhaps because the container holds all that the unit may
            // have: later, then.
            Err(_) if is_over(&worker.main, PAUSE) => return Ok(()),
            Err(_) => continue,
        };
        rustix::thread::set_name(c"wharf-guard").ok();
        let signal = match wait_for(child)? {
            status if status.exit_status() == Some(0) => return Ok(()),
            status => status.terminating_signal(),
        };
        let pause = match started.elapsed() < LIVED {
            true => PAUSE,
            false => Duration::ZERO,
        };
        if is_over(&worker.main, Duration::ZERO) {
            return Ok(());
        }
        // An entry that cannot be written now is worth less than the output.
        let _reported: bool = report::send(Entry::Died { signal }, unit);
        if !pause.is_zero() && is_over(&worker.main, pause) {
            return Ok(());
        }
    }
}

fn wait_for(child: Pid) -> anyhow::Result<WaitStatus> {
    loop {
        let ended = rustix::process::waitpid(Some(child), WaitOptions::empty());
        match ended {
            Ok(Some((_, status))) => return Ok(status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("waiting for the worker"),
        }
    }
}

/// Whether the container's init ends within `time`.
fn is_over<'a>(main: &'a impl std::os::fd::AsFd, time: Duration) -> bool {
    let main: BorrowedFd<'a> = main.as_fd();
    let timeout = Timespec::try_from(time).unwrap_or_default();
    let mut fds = [PollFd::from_borrowed_fd(main, PollFlags::IN)];
    rustix::event::poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0)
}
