// SPDX-License-Identifier: Apache-2.0
//! Local sockets: datagrams to the service manager and to journald, streams to journald.
//!
//! An [`Address`] is checked once and sent to many times. Nothing here knows what the bytes mean;
//! nothing allocates after the address is made.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

use super::{Error, Result};

/// Most descriptors that one message carries. systemd takes more; we never need more.
pub const FDS_MAX: usize = 8;

/// Where a local socket listens: a path, or a name of the abstract namespace.
#[derive(Debug, Clone)]
pub struct Address(SocketAddrUnix);

impl Address {
    /// The address as environment variables write it: `/path`, or `@name` for an abstract one.
    ///
    /// Anything else (vsock addresses, relative paths) and what does not fit is an error.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed = match text.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None if text.starts_with('/') => SocketAddrUnix::new(text),
            None => Err(rustix::io::Errno::AFNOSUPPORT),
        };
        parsed
            .map(Self)
            .map_err(|errno| Error::new(format!("sockaddr_un({text:?})"), errno))
    }

    /// The address of the socket file `path`.
    pub fn from_path(path: &Path) -> Result<Self> {
        SocketAddrUnix::new(path)
            .map(Self)
            .map_err(|errno| Error::new(format!("sockaddr_un({:?})", path.display()), errno))
    }
}

/// Whether a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// The call waits until the peer has room.
    Wait,
    /// The call ends with `WouldBlock` where it would have to wait.
    Never,
}

fn socket(kind: SocketType, blocking: Blocking) -> io::Result<OwnedFd> {
    let flags = match blocking {
        Blocking::Wait => SocketFlags::CLOEXEC,
        Blocking::Never => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    };
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

/// An unbound datagram socket.
pub fn datagram(blocking: Blocking) -> Result<OwnedFd> {
    socket(SocketType::DGRAM, blocking).map_err(|err| Error::new("socket(AF_UNIX, DGRAM)", err))
}

/// A datagram socket bound to the new socket file `path`, which gets `mode`.
pub fn bind_datagram(path: &Path, mode: u32) -> Result<OwnedFd> {
    let address = Address::from_path(path)?;
    let attempt = || -> io::Result<OwnedFd> {
        let fd = socket(SocketType::DGRAM, Blocking::Wait)?;
        rustix::net::bind(&fd, &address.0)?;
        // bind(2) gives the file a mode that the umask has cut.
        rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode))?;
        Ok(fd)
    };
    attempt().map_err(|err| Error::new(format!("bind({:?})", path.display()), err))
}

/// A datagram socket connected to `address`, whose POLLOUT says whether the peer has room.
pub fn connect_datagram(address: &Address, blocking: Blocking) -> Result<OwnedFd> {
    connect(SocketType::DGRAM, address, blocking)
}

/// A stream connected to `address`.
pub fn connect_stream(address: &Address, blocking: Blocking) -> Result<OwnedFd> {
    connect(SocketType::STREAM, address, blocking)
}

fn connect(kind: SocketType, address: &Address, blocking: Blocking) -> Result<OwnedFd> {
    let attempt = || -> io::Result<OwnedFd> {
        let fd = socket(kind, blocking)?;
        rustix::net::connect(&fd, &address.0)?;
        Ok(fd)
    };
    attempt().map_err(|err| Error::new(format!("connect({:?})", address.0), err))
}

/// Sends one datagram with up to [`FDS_MAX`] descriptors to `address`.
pub fn send_to(
    socket: BorrowedFd<'_>,
    address: &Address,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
) -> Result<()> {
    let call = || format!("sendmsg({:?}, {} bytes)", address.0, message.len());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The buffer is rounded up, so that push() alone would take a few more now and then.
    let fits = fds.len() <= FDS_MAX;
    if !fits || !(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds))) {
        let err = io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("more than {FDS_MAX} descriptors"),
        );
        return Err(Error::new(call(), err));
    }
    let parts = [IoSlice::new(message)];
    let sent = rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg_addr(
            socket,
            &address.0,
            &parts,
            &mut control,
            SendFlags::NOSIGNAL,
        )
    });
    sent.map(|_| ()).map_err(|errno| Error::new(call(), errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let long = format!("/{}", "x".repeat(108));
        for (text, good) in [
            ("/run/systemd/notify", true),
            ("@abstract", true),
            ("", false),
            ("relative", false),
            ("vsock:2:1234", false),
            ("/a\0b", false),
            (long.as_str(), false),
        ] {
            assert_eq!(Address::parse(text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn too_many_descriptors_are_an_error() {
        use std::os::fd::AsFd as _;
        let socket = datagram(Blocking::Wait).unwrap();
        let fds = [socket.as_fd(); FDS_MAX + 1];
        let address = Address::parse("@wharf-nobody-listens").unwrap();
        let err = send_to(socket.as_fd(), &address, b"x", &fds).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    }
}
