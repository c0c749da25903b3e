// SPDX-License-Identifier: Apache-2.0
//! What a program needs that lives on descriptors handed to it through exec.
//!
//! Taking the descriptors it was told of, closing all others, splitting in two, and being left
//! alone by signals.

#![expect(
    unsafe_code,
    reason = "taking descriptors by number, fork and ioctl are unsafe"
)]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::sys::signal::SigSet;
use nix::unistd::ForkResult;
use rustix::io::FdFlags;
use rustix::process::Pid;

use super::{Error, Result};

/// The descriptors taken so far, of those that whoever ran exec promised us by number.
///
/// Each gets one owner: a second one would close what belongs to the first.
#[derive(Debug, Default)]
pub struct Taken(Vec<RawFd>);

impl Taken {
    /// Takes the open descriptor with this number and marks it close-on-exec. 0, 1 and 2 are not
    /// ours to take.
    pub fn take(&mut self, number: i32) -> Result<OwnedFd> {
        let refused = |why| {
            let err = io::Error::new(io::ErrorKind::InvalidInput, why);
            Err(Error::new(format!("fcntl({number}, F_GETFD)"), err))
        };
        if number < 3 {
            return refused("must be 3 or more");
        }
        if self.0.contains(&number) {
            return refused("has another use");
        }
        // SAFETY: borrowed for the one call that finds out whether it is open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)
            .map_err(|errno| Error::new(format!("fcntl({number}, F_GETFD)"), errno))?;
        self.0.push(number);
        // SAFETY: it is open, came to us through exec, and nobody has taken it yet.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Closes every descriptor from 3 on that was not taken.
    ///
    /// To be called when nothing but those is owned by anything.
    pub fn close_others(mut self) -> Result<()> {
        self.0.sort_unstable();
        let mut first: libc::c_uint = 3;
        for number in self.0 {
            let number = libc::c_uint::try_from(number).unwrap_or(first);
            if number > first {
                close_range(first, number - 1)?;
            }
            first = number + 1;
        }
        close_range(first, libc::c_uint::MAX)
    }
}

/// Lets `fd` stay open in the program that this process becomes by exec, and returns its number.
pub fn keep_on_exec(fd: &OwnedFd) -> Result<RawFd> {
    rustix::io::fcntl_setfd(fd.as_fd(), FdFlags::empty())
        .map_err(|errno| Error::new(format!("fcntl({}, F_SETFD, 0)", fd.as_raw_fd()), errno))?;
    Ok(fd.as_raw_fd())
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<()> {
    // SAFETY: the caller owns nothing in this range; no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match result {
        0 => Ok(()),
        _ => Err(Error::new(
            format!("close_range({first}, {last})"),
            io::Error::last_os_error(),
        )),
    }
}

/// Which of the two processes goes on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The one that was there before; it has this child now.
    Parent(Pid),
    /// The new one.
    Child,
}

/// Splits the process in two. Only for programs without threads.
pub fn split() -> Result<Half> {
    // SAFETY: the process has one thread, so that no lock can be held by a thread that the child
    // does not have.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => Ok(Half::Child),
        Ok(ForkResult::Parent { child }) => Pid::from_raw(child.as_raw())
            .map(Half::Parent)
            .ok_or_else(|| Error::new("fork()", io::Error::other("no child"))),
        Err(errno) => Err(Error::new("fork()", errno)),
    }
}

/// Does `work` in a process that has `kept` and no other descriptor of this one, and that PID 1 or
/// the nearest subreaper waits for.
///
/// Other threads may be there, as long as what `work` does needs no lock of theirs: the C library
/// makes its allocator usable after fork, and that is all the engine's threads share.
pub fn fork_apart(kept: &OwnedFd, work: impl FnOnce()) -> Result<()> {
    // SAFETY: the child makes another one and ends; see above for what that one may do.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Parent { child }) => {
            let status = nix::sys::wait::waitpid(child, None);
            let status = status.map_err(|errno| Error::new("waitpid()", errno))?;
            match status {
                nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
                other => {
                    let err = io::Error::other(format!("no process to be had: {other:?}"));
                    Err(Error::new("fork()", err))
                }
            }
        }
        Ok(ForkResult::Child) => {
            // SAFETY: as above.
            let code = match unsafe { nix::unistd::fork() } {
                Ok(ForkResult::Parent { .. }) => 0,
                Ok(ForkResult::Child) => {
                    // Nothing of the parent's may be unwound here.
                    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        Taken(vec![kept.as_raw_fd()]).close_others().ok();
                        work();
                    }));
                    i32::from(done.is_err())
                }
                Err(_) => 1,
            };
            // SAFETY: ends the process without running what belongs to the parent.
            unsafe { libc::_exit(code) }
        }
        Err(errno) => Err(Error::new("fork()", errno)),
    }
}

/// Keeps every signal away that can be kept away, in this process and its children.
///
/// SIGKILL, SIGSTOP and faults of the process itself still work.
pub fn block_signals() -> Result<()> {
    SigSet::all()
        .thread_block()
        .map_err(|errno| Error::new("sigprocmask(SIG_BLOCK, ALL)", errno))
}

/// How much a socket's peer has not read yet, in bytes of kernel memory: more than the bytes
/// themselves. 0 if it cannot be said.
pub fn unread(socket: BorrowedFd<'_>) -> u64 {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ) writes one int, and `count` is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    match result {
        0 => u64::try_from(count).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_descriptors_from_3_on_are_taken() {
        for bad in [-1, 0, 2, 1_000_000] {
            assert!(Taken::default().take(bad).is_err(), "{bad}");
        }
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let kept = keep_on_exec(&reader).unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&reader).unwrap(), FdFlags::empty());
        assert_eq!(kept, reader.as_raw_fd());
    }

    #[test]
    fn a_descriptor_has_one_owner() {
        let (_reader, writer) = rustix::pipe::pipe().unwrap();
        let mut taken = Taken(vec![writer.as_raw_fd()]);
        let err = taken.take(writer.as_raw_fd()).unwrap_err();
        assert!(err.to_string().contains("has another use"), "{err}");
    }

    #[test]
    fn unread_bytes_are_seen() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(unread(ours.as_fd()), 0);
        rustix::io::write(&ours, &[0; 5000]).unwrap();
        assert!(unread(ours.as_fd()) >= 5000);
    }
}
