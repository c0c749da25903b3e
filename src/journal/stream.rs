// SPDX-License-Identifier: Apache-2.0
//! Streams of lines to the journal, and bringing a FIFO's last bytes there.
//!
//! journald cuts the stream into lines, honours `<N>` priority prefixes, and adds what it knows of
//! the unit. The header it wants first is what systemd itself sends for `StandardOutput=journal`.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::sys;
use crate::sys::pipe::{self, Moved};
use crate::sys::socket::{self, Address, Blocking};

/// Where journald takes streams (systemd-journald.service(8)).
pub const STDOUT_SOCKET: &str = "/run/systemd/journal/stdout";

/// Where journald takes requests, by varlink.
const VARLINK_SOCKET: &str = "/run/systemd/journal/io.systemd.journal";

/// Longest header: an identifier and a unit name of 255 bytes each, and six short lines.
const HEADER_MAX_BYTES: usize = 600;

/// As what a stream's lines are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// `SYSLOG_IDENTIFIER=`, at most 255 bytes without control characters.
    pub identifier: &'a str,
    /// The unit whose lines these are. journald believes it of root only, and else looks at the
    /// sender's cgroup.
    pub unit: &'a str,
    /// Priority of lines without a `<N>` prefix, 0 (emerg) to 7 (debug).
    pub priority: u8,
}

impl Header<'_> {
    fn render<'b>(&self, buffer: &'b mut [u8; HEADER_MAX_BYTES]) -> io::Result<&'b [u8]> {
        if let Some(bad) = [self.identifier, self.unit]
            .into_iter()
            .find(|text| text.chars().any(char::is_control))
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("control character in '{}'", bad.escape_debug()),
            ));
        }
        let mut rest = buffer.as_mut_slice();
        // Then: honour <N> prefixes; forward to syslog, kmsg and console as journald.conf says.
        write!(
            rest,
            "{}\n{}\n{}\n1\n0\n0\n0\n",
            self.identifier,
            self.unit,
            self.priority.min(7)
        )?;
        let length = HEADER_MAX_BYTES - rest.len();
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// Opens a non-blocking stream to the journal whose lines are recorded as `header` says.
pub fn connect(header: &Header<'_>) -> sys::Result<OwnedFd> {
    connect_at(&Address::parse(STDOUT_SOCKET)?, header)
}

fn connect_at(address: &Address, header: &Header<'_>) -> sys::Result<OwnedFd> {
    let stream = socket::connect_stream(address, Blocking::Never)?;
    let mut buffer = [0; HEADER_MAX_BYTES];
    let writing = |err| sys::Error::new("write(journal stream header)", err);
    let header = header.render(&mut buffer).map_err(writing)?;
    // A new socket has room for it.
    let written = rustix::io::write(&stream, header).map_err(|errno| writing(errno.into()))?;
    if written == header.len() {
        Ok(stream)
    } else {
        Err(writing(io::ErrorKind::WriteZero.into()))
    }
}

/// Moves what the FIFO at `path` holds at this moment to a new journal stream, and returns how
/// many bytes that were. An absent FIFO holds none.
///
/// A process that keeps writing cannot keep this going: what comes later stays where it is.
/// journald that takes nothing for `deadline` is an error.
pub fn drain(path: &Path, header: &Header<'_>, deadline: Duration) -> anyhow::Result<u64> {
    let draining = || format!("draining '{}' to the journal", path.display());
    let source = match pipe::open_fifo_reader(path) {
        Ok(source) => source,
        Err(err) if err.is_absent() => return Ok(0),
        Err(err) => return Err(err).with_context(draining),
    };
    let bytes = pipe::pending(source.as_fd());
    if bytes == 0 {
        return Ok(0);
    }
    // The relay was killed with the container and journald may not have read all that it sent;
    // journald reads several streams in no order that we could rely on.
    if let Err(err) = synchronize(deadline) {
        tracing::debug!("journald did not synchronize, going on without: {err}");
    }
    let sink = connect(header).with_context(draining)?;
    move_exactly(source.as_fd(), sink.as_fd(), bytes, deadline).with_context(draining)?;
    Ok(bytes)
}

fn move_exactly(
    source: BorrowedFd<'_>,
    sink: BorrowedFd<'_>,
    bytes: u64,
    deadline: Duration,
) -> io::Result<()> {
    let end = Instant::now() + deadline;
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        match pipe::splice(source, sink, left) {
            Moved::Bytes(count) => left = left.saturating_sub(count),
            Moved::Empty | Moved::End => return Ok(()),
            Moved::Blocked => wait_for(sink, PollFlags::OUT, end)?,
            Moved::SinkGone => return Err(io::ErrorKind::BrokenPipe.into()),
            Moved::Unsupported => left = left.saturating_sub(copy_once(source, sink, left, end)?),
            Moved::Failed(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// One step of [`move_exactly`] where splice(2) is not to be had.
fn copy_once(
    source: BorrowedFd<'_>,
    sink: BorrowedFd<'_>,
    limit: usize,
    end: Instant,
) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let limit = limit.min(buffer.len());
    let count = rustix::io::read(source, buffer.get_mut(..limit).unwrap_or_default())?;
    let mut rest = buffer.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(sink, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::AGAIN) => wait_for(sink, PollFlags::OUT, end)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(count)
}

fn wait_for(fd: BorrowedFd<'_>, events: PollFlags, end: Instant) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(0) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "journald takes nothing",
        )),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Waits until journald has processed all that was sent to it before, as `journalctl --sync` does.
/// For root only.
pub fn synchronize(deadline: Duration) -> io::Result<()> {
    let end = Instant::now() + deadline;
    let address = Address::parse(VARLINK_SOCKET).map_err(|err| err.cause)?;
    let socket = socket::connect_stream(&address, Blocking::Never).map_err(|err| err.cause)?;
    let request = b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0";
    if rustix::io::write(&socket, request)? != request.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    // The answer's one fact is that it comes: it ends in NUL, and so does an error.
    let mut buffer = [0; 512];
    loop {
        match rustix::io::read(&socket, &mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if buffer.get(..count).unwrap_or_default().contains(&0) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => wait_for(socket.as_fd(), PollFlags::IN, end)?,
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    const HEADER: Header<'static> = Header {
        identifier: "web",
        unit: "ctr@web.service",
        priority: 6,
    };

    #[test]
    fn a_stream_begins_with_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let listener = UnixListener::bind(&path).unwrap();
        let stream = connect_at(&Address::from_path(&path).unwrap(), &HEADER).unwrap();
        rustix::io::write(&stream, b"hello\n").unwrap();
        drop(stream);
        let mut received = String::new();
        let (mut journal, _) = listener.accept().unwrap();
        journal.read_to_string(&mut received).unwrap();
        assert_eq!(received, "web\nctr@web.service\n6\n1\n0\n0\n0\nhello\n");
    }

    #[test]
    fn a_header_holds_no_line_of_its_own() {
        let bad = Header {
            identifier: "web\n\n0",
            ..HEADER
        };
        let mut buffer = [0; HEADER_MAX_BYTES];
        assert!(bad.render(&mut buffer).is_err());
        let long = "x".repeat(HEADER_MAX_BYTES);
        let bad = Header {
            unit: &long,
            ..HEADER
        };
        assert!(bad.render(&mut buffer).is_err());
    }

    #[test]
    fn moving_stops_at_what_was_asked_and_in_time() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (sink, mut journal) = std::os::unix::net::UnixStream::pair().unwrap();
        sink.set_nonblocking(true).unwrap();
        rustix::io::write(&writer, b"last words and more").unwrap();
        let deadline = Duration::from_millis(30);
        move_exactly(reader.as_fd(), sink.as_fd(), 10, deadline).unwrap();
        let mut received = [0; 10];
        journal.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"last words");
        assert_eq!(pipe::pending(reader.as_fd()), 9);
        while rustix::io::write(&sink, &[0; 4096]).is_ok() {}
        let err = move_exactly(reader.as_fd(), sink.as_fd(), 9, deadline).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::TimedOut);
    }
}
