// SPDX-License-Identifier: Apache-2.0
//! Pipes and FIFOs: opening their ends and moving bytes on without looking at them.
//!
//! Nothing here allocates when it succeeds or would have to wait; callers run these in a loop for
//! the whole life of a container.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::{Error, Result};

/// What one attempt to move bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes went from the source to the sink.
    Bytes(usize),
    /// The source holds nothing at the moment.
    Empty,
    /// The source holds bytes, the sink has no room for them.
    Blocked,
    /// The source is empty and has no writer.
    End,
    /// The peer of the sink is gone; what was not moved is still in the source.
    SinkGone,
    /// splice(2) does not take these two; read(2) and write(2) do.
    Unsupported,
    /// Anything else the kernel may say.
    Failed(Errno),
}

/// Moves at most `limit` bytes from the pipe `source` to the non-blocking socket `sink`, never
/// waiting, never copying them to user space.
pub fn splice(source: BorrowedFd<'_>, sink: BorrowedFd<'_>, limit: usize) -> Moved {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    let moved =
        rustix::io::retry_on_intr(|| rustix::pipe::splice(source, None, sink, None, limit, flags));
    match moved {
        Ok(0) => Moved::End,
        Ok(count) => Moved::Bytes(count),
        // The kernel does not say which side it would have had to wait for.
        Err(Errno::AGAIN) => match pending(source) {
            0 => Moved::Empty,
            _ => Moved::Blocked,
        },
        Err(Errno::INVAL | Errno::NOSYS) => Moved::Unsupported,
        Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Moved::SinkGone,
        Err(errno) => Moved::Failed(errno),
    }
}

/// What a pipe begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance {
    /// Bytes that were looked at.
    pub seen: usize,
    /// How many of them end in the last newline among them; 0 if there is none.
    pub lines: usize,
}

/// A pipe beside another one, to look at bytes without taking them.
#[derive(Debug)]
pub struct SidePipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl SidePipe {
    /// An empty one.
    pub fn new() -> Result<Self> {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map(|(reader, writer)| Self { reader, writer })
            .map_err(|errno| Error::new("pipe2(O_CLOEXEC)", errno))
    }

    /// Looks at what `source` holds, and leaves it there. `buffer` is for the bytes on their way.
    pub fn glance(&self, source: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<Glance> {
        let flags = SpliceFlags::NONBLOCK;
        // As much as the side pipe has room for: it is empty between two calls.
        let seen = match rustix::pipe::tee(source, &self.writer, usize::MAX >> 1, flags) {
            Err(Errno::AGAIN) => 0,
            teed => teed?,
        };
        let (mut position, mut lines) = (0, 0);
        while position < seen {
            let count = rustix::io::read(&self.reader, &mut *buffer)?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if let Some(newline) = bytes.iter().rposition(|byte| *byte == b'\n') {
                lines = position + newline + 1;
            }
            position += count.max(1);
        }
        Ok(Glance { seen, lines })
    }
}

/// How many bytes `source` holds; 0 if it cannot say.
pub fn pending(source: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(source).unwrap_or(0)
}

/// Whether the pipe with this write end takes no more: all its slots are used.
pub fn is_full(writer: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(writer, PollFlags::OUT)];
    let polled = poll(&mut fds, Some(&Timespec::default()));
    polled == Ok(0)
}

/// Whether `fd` is a pipe or FIFO.
pub fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo)
}

/// Opens the FIFO `path` for reading without waiting for a writer. Anything but a FIFO is an
/// error, and is not opened for more than that question.
pub fn open_fifo_reader(path: &Path) -> Result<OwnedFd> {
    let call = || format!("open({:?})", path.display());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| Error::new(call(), errno))?;
    if is_pipe(fd.as_fd()) {
        return Ok(fd);
    }
    let err = io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO");
    Err(Error::new(call(), err))
}

/// Opens a write end of the pipe whose read end is `reader`.
///
/// While someone holds one, the reader sees no end of file: programs in a container may close
/// their output and open `/dev/stdout` again later, and a reader that polls would be told "hung
/// up" without pause in between.
pub fn open_writer(reader: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(path.as_str(), flags, Mode::empty())
        .map_err(|errno| Error::new(format!("open({path:?}, O_WRONLY)"), errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn streams() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn splice_tells_what_it_met() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (sink, journal) = streams();
        let step = || splice(reader.as_fd(), sink.as_fd(), 1 << 20);
        assert_eq!(step(), Moved::Empty);
        rustix::io::write(&writer, b"four").unwrap();
        assert_eq!(step(), Moved::Bytes(4));
        let mut last = Moved::Empty;
        for _ in 0..1000 {
            rustix::io::write(&writer, &[b'x'; 4096]).unwrap();
            last = step();
            if last == Moved::Blocked {
                break;
            }
        }
        assert_eq!(last, Moved::Blocked);
        drop(journal);
        assert_eq!(step(), Moved::SinkGone);
        let held = open_writer(reader.as_fd()).unwrap();
        drop(writer);
        assert!(pending(reader.as_fd()) > 0);
        let (sink, _journal) = streams();
        let step = || splice(reader.as_fd(), sink.as_fd(), 1 << 20);
        assert!(matches!(step(), Moved::Bytes(_)));
        assert_eq!(step(), Moved::Empty);
        drop(held);
        assert_eq!(step(), Moved::End);
    }

    #[test]
    fn a_glance_takes_nothing() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let side = SidePipe::new().unwrap();
        let mut buffer = [0; 5];
        let mut glance = || {
            let glance = side.glance(reader.as_fd(), &mut buffer).unwrap();
            (glance.seen, glance.lines)
        };
        assert_eq!(glance(), (0, 0));
        rustix::io::write(&writer, b"partial").unwrap();
        assert_eq!(glance(), (7, 0));
        rustix::io::write(&writer, b" line\nand more").unwrap();
        assert_eq!(glance(), (21, 13));
        assert_eq!(pending(reader.as_fd()), 21);
    }

    #[test]
    fn splice_to_what_takes_none_is_unsupported() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        assert_eq!(
            splice(reader.as_fd(), eventfd.as_fd(), 1),
            Moved::Unsupported
        );
    }

    #[test]
    fn only_fifos_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(open_fifo_reader(&fifo).is_ok());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&fifo, &link).unwrap();
        let file = dir.path().join("file");
        std::fs::File::create(&file).unwrap();
        for bad in [&link, &file] {
            assert!(open_fifo_reader(bad).is_err(), "{}", bad.display());
        }
        let none = open_fifo_reader(&dir.path().join("none")).unwrap_err();
        assert!(none.is_absent());
    }
}
