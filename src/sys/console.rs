// SPDX-License-Identifier: Apache-2.0
//! Receiving a terminal's master from the OCI runtime (`--console-socket`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{Error, Result};

/// Listens on `path`, which only this user can reach.
pub fn listen(path: &Path) -> Result<UnixListener> {
    super::fs::remove_file(path)?;
    UnixListener::bind(path).map_err(|err| Error::new(format!("bind({:?})", path.display()), err))
}

/// Takes the master that the runtime sent before it ended: nothing is waited for.
///
/// # Errors
///
/// `WouldBlock` when the runtime did not connect; `InvalidData` when it sent no descriptor.
pub fn receive(listener: &UnixListener) -> Result<OwnedFd> {
    let failed = |err: io::Error| Error::new("recvmsg(console socket)", err);
    listener.set_nonblocking(true).map_err(failed)?;
    let (stream, _) = listener.accept().map_err(failed)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    // Byte data must come with a descriptor; the runtimes send the terminal's name.
    let mut name = [0_u8; 256];
    recvmsg(
        &stream,
        &mut [io::IoSliceMut::new(&mut name)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .map_err(|err| failed(err.into()))?;
    ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, "no descriptor")))
}
