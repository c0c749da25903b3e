// SPDX-License-Identifier: Apache-2.0
//! A cgroup namespace whose root is a group that this process is not in (cgroup_namespaces(7)).
//!
//! The root of a namespace is the group of whoever makes it. To move there and back would take two
//! RCU grace periods, milliseconds in which no process of the machine can fork. A child that is
//! born in the group costs a fork.

#![expect(unsafe_code, reason = "clone3 has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::{Error, Result};

/// From linux/sched.h; the one of libc overflows its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Joins the namespace of a child that is born in the group at `dir`. Only for a process without
/// threads.
pub(super) fn enter(dir: &Path) -> Result<()> {
    let call = format!("clone3(CLONE_INTO_CGROUP, {:?})", dir.display().to_string());
    enter_at(dir).map_err(|err| Error::new(call, err))
}

fn enter_at(dir: &Path) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::open(dir, flags, Mode::empty())?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let Some(child) = born_in(&group)? else {
        drop(ours);
        serve(&theirs);
    };
    drop(theirs);
    let joined = join(&ours, &child);
    // The child ends when its peer is gone, also if this process is killed before it gets here.
    drop(ours);
    waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED)?;
    joined
}

/// Forks; the child begins in `group`. Returns its pidfd, or `None` in the child.
fn born_in(group: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers, for which zero means "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_INTO_CGROUP | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    args.cgroup = group.as_raw_fd().cast_unsigned().into();
    // SAFETY: without CLONE_VM this is fork(2); the process has one thread, so no lock can be held
    // by a thread that the child does not have. `args` and `pidfd` outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    match result {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has stored a new descriptor there, which nobody else owns.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// The child: makes the namespace, says whether it could, and waits until its peer is gone.
fn serve(peer: &OwnedFd) -> ! {
    // SAFETY: CLONE_NEWCGROUP changes nothing that this process shares with another.
    let made = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) };
    let errno = made.err().map_or(0, rustix::io::Errno::raw_os_error);
    if rustix::io::write(peer, &errno.to_ne_bytes()).is_ok() {
        rustix::io::read(peer, &mut [0; 1]).ok();
    }
    // SAFETY: nothing of the parent's may run at the end of its copy, and _exit runs nothing.
    unsafe { libc::_exit(0) }
}

fn join(peer: &OwnedFd, child: &OwnedFd) -> io::Result<()> {
    let mut answer = [0; size_of::<i32>()];
    if rustix::io::read(peer, &mut answer)? != answer.len() {
        return Err(io::Error::other("the child ended without an answer"));
    }
    match i32::from_ne_bytes(answer) {
        0 => {}
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    // nsfs takes a pidfd for the namespaces of its process (Linux 5.8).
    rustix::thread::move_into_thread_name_spaces(
        child.as_fd(),
        ThreadNameSpaceType::CONTROL_GROUP,
    )?;
    Ok(())
}
