// SPDX-License-Identifier: Apache-2.0
//! Finding where the lines in a FIFO end, without taking them out.
//!
//! The relay looks only for newlines; the bytes themselves still move inside the kernel. A relay
//! that read and wrote them would hold the end of a line in its memory when it is killed.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use crate::sys;
use crate::sys::pipe::{self, Glance, SidePipe};

/// What is looked at in one go.
const BUFFER_BYTES: usize = 4096;

/// A line of which so much is there is passed on in parts, before the FIFO is full (64 KiB).
/// journald cuts lines at 48 KiB anyway.
const LINE_MAX_BYTES: usize = 32 << 10;

/// Where the lines in a FIFO end.
#[derive(Debug)]
pub struct Lines {
    side: SidePipe,
    /// Readable when something was written since the last look: poll(2) on the FIFO itself would
    /// go on to report the beginning of a line that is left there.
    news: OwnedFd,
    partial: bool,
}

impl Lines {
    /// Watches the FIFO `source`.
    pub fn new(source: BorrowedFd<'_>) -> sys::Result<Self> {
        let watching = |errno| sys::Error::new("epoll_ctl(EPOLLET)", errno);
        let news = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(watching)?;
        let (data, events) = (epoll::EventData::new_u64(0), epoll::EventFlags::IN);
        epoll::add(&news, source, data, events | epoll::EventFlags::ET).map_err(watching)?;
        Ok(Self {
            side: SidePipe::new()?,
            news,
            partial: false,
        })
    }

    /// Whether the FIFO holds the beginning of a line and nothing else.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// What poll(2) is to look at then.
    pub fn news(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// How many bytes at the beginning of `source` are to be passed on now; `limit` if that cannot be told.
    pub fn take(&mut self, source: BorrowedFd<'_>, limit: usize) -> usize {
        if self.partial {
            let mut event = [const { MaybeUninit::uninit() }; 1];
            // Taking the news is all; whether there was any, the look below tells.
            epoll::wait(&self.news, &mut event, Some(&Timespec::default())).ok();
        }
        let mut buffer = [0; BUFFER_BYTES];
        let count = match self.side.glance(source, &mut buffer) {
            // More than was seen: the container has made its FIFO larger than what we look with.
            Ok(Glance { lines: 0, seen })
                if seen < LINE_MAX_BYTES
                    && pipe::pending(source) <= u64::try_from(seen).unwrap_or(u64::MAX) =>
            {
                0
            }
            Ok(Glance { lines: 0, seen }) => seen,
            Ok(Glance { lines, .. }) => lines,
            // Cut lines are better than none.
            Err(_) => limit,
        };
        self.partial = count == 0;
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags};

    #[test]
    fn the_beginning_of_a_line_stays_and_is_not_reported_for_ever() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut lines = Lines::new(reader.as_fd()).unwrap();
        let is_news = |lines: &Lines| {
            let mut fds = [PollFd::from_borrowed_fd(lines.news(), PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        rustix::io::write(&writer, b"one\ntw").unwrap();
        assert_eq!(lines.take(reader.as_fd(), 99), 4);
        rustix::io::read(&reader, &mut [0; 4]).unwrap();
        assert_eq!(lines.take(reader.as_fd(), 99), 0);
        assert!(lines.is_partial());
        assert_eq!(lines.take(reader.as_fd(), 99), 0);
        assert!(!is_news(&lines));
        rustix::io::write(&writer, b"o").unwrap();
        assert!(is_news(&lines));
        assert_eq!(lines.take(reader.as_fd(), 99), 0);
        rustix::io::write(&writer, b"\n").unwrap();
        assert!(is_news(&lines));
        assert_eq!(lines.take(reader.as_fd(), 99), 4);
    }

    #[test]
    fn a_long_line_goes_in_parts() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let mut lines = Lines::new(reader.as_fd()).unwrap();
        rustix::io::write(&writer, &[b'x'; LINE_MAX_BYTES - 1]).unwrap();
        assert_eq!(lines.take(reader.as_fd(), 99), 0);
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(lines.take(reader.as_fd(), 99), LINE_MAX_BYTES);
    }
}
