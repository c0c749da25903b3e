// SPDX-License-Identifier: Apache-2.0
//! One stream of bytes: from a FIFO or a terminal of the container to a stream of the journal.
//!
//! A flow never waits and never gives up. It loses bytes only while there is no journald to take
//! them, so that the container can go on; what was lost is counted and reported once.
//!
//! Only whole lines leave a FIFO while the container runs: whoever goes on with it, a new worker or
//! `wharf cleanup`, then begins with a line. journald would record the two parts of a cut line as
//! two lines, because they come from two senders.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::journal::stream::{self, Header};
use crate::sys;
use crate::sys::inherit;
use crate::sys::pipe::{self, Moved};

use super::buffer::{Buffer, Kind};
use super::lines::Lines;
use super::report::{self, Entry};

/// Most that one splice moves, so that the other flows get their turn: 1 MiB.
const SPLICE_MAX_BYTES: usize = 1 << 20;

/// What is dropped at once.
const DISCARD_BYTES: usize = 4096;

/// How often bytes are dropped in a row before the other flows get their turn.
const DISCARDS_MAX: usize = 16;

/// A stream that lived this long was a good one: the next attempt needs no pause.
const SETTLED: Duration = Duration::from_secs(1);

/// Pause before the second attempt to reach the journal; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long the container may be held up by a journald that is away before its output is dropped.
/// A restart takes less, and is served by socket activation anyway.
const GRACE: Duration = Duration::from_secs(1);

/// How bytes get on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Inside the kernel.
    Splice,
    /// Through the buffer.
    Copy,
}

/// The journal's end.
#[derive(Debug)]
enum Sink {
    Open {
        stream: OwnedFd,
        since: Instant,
        /// Set while it has no room.
        full: Option<Full>,
        /// What journald had not read after the last write.
        unread: u64,
    },
    Away {
        since: Instant,
        next: Instant,
    },
}

/// A stream that has no room.
///
/// journald may be slow, and then the container waits. It may also have been stopped: systemd 254
/// and later keep its streams open all the same, for a journald to come.
#[derive(Debug, Clone, Copy)]
struct Full {
    /// When to look whether anybody is there to read.
    look: Instant,
    /// Whether nobody was at the last look.
    deserted: bool,
}

/// What poll(2) is to look for.
#[derive(Debug)]
pub struct Interest<'a> {
    /// The source, if there is a use for its bytes.
    pub source: Option<BorrowedFd<'a>>,
    /// The sink and what is waited for; hang-ups always are.
    pub sink: Option<(BorrowedFd<'a>, PollFlags)>,
    /// When to come back without either.
    pub at: Option<Instant>,
}

/// What poll(2) found.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Whether the source has bytes or an end.
    pub source: bool,
    /// What happened at the sink.
    pub sink: PollFlags,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            source: false,
            sink: PollFlags::empty(),
        }
    }
}

/// One stream of bytes on its way.
#[derive(Debug)]
pub struct Flow<'a> {
    source: OwnedFd,
    kind: Kind,
    way: Way,
    header: Header<'a>,
    /// Keeps the source from ending while the container runs.
    hold: Option<OwnedFd>,
    lines: Option<Lines>,
    sink: Sink,
    pause: Duration,
    buffer: Buffer,
    lost: Lost,
    ended: bool,
}

/// What did not reach the journal.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    bytes: u64,
    lines: u64,
    unread: u64,
}

impl<'a> Flow<'a> {
    /// A flow of `source`, connected to the journal if it is there.
    pub fn new(source: OwnedFd, kind: Kind, header: Header<'a>) -> Self {
        let now = Instant::now();
        Self {
            source,
            kind,
            way: match kind {
                Kind::Fifo => Way::Splice,
                Kind::Console => Way::Copy,
            },
            header,
            hold: None,
            lines: None,
            sink: stream::connect(&header).map_or(
                Sink::Away {
                    since: now,
                    next: now + PAUSE_MIN,
                },
                |stream| Sink::opened(stream, now),
            ),
            pause: Duration::ZERO,
            buffer: Buffer::default(),
            lost: Lost::default(),
            ended: false,
        }
    }

    /// Begins in the process that moves the bytes.
    ///
    /// It alone holds the source open: with two holders none would see the source end.
    pub fn begin(&mut self) -> sys::Result<()> {
        self.hold = Some(match self.kind {
            Kind::Fifo => pipe::open_writer(self.source.as_fd())?,
            Kind::Console => open_console(self.source.as_fd())?,
        });
        if self.kind == Kind::Fifo {
            self.lines = Some(Lines::new(self.source.as_fd())?);
        }
        if let Sink::Away { since, .. } = &mut self.sink {
            *since = Instant::now();
        }
        Ok(())
    }

    /// The container's init has ended: the source may end too.
    pub fn release(&mut self) {
        self.hold = None;
        self.lines = None;
    }

    /// Whether nothing will come any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What to wait for at `now`.
    pub fn interest(&self, now: Instant) -> Interest<'_> {
        if self.ended {
            return Interest {
                source: None,
                sink: None,
                at: None,
            };
        }
        let source = match &self.lines {
            Some(lines) if lines.is_partial() => Some(lines.news()),
            Some(_) | None => Some(self.source.as_fd()),
        };
        match &self.sink {
            Sink::Open {
                stream,
                full: Some(full),
                ..
            } => Interest {
                source: full.deserted.then(|| self.source.as_fd()),
                sink: Some((stream.as_fd(), PollFlags::OUT)),
                at: Some(full.look),
            },
            Sink::Open {
                stream, full: None, ..
            } => Interest {
                source,
                sink: Some((stream.as_fd(), PollFlags::empty())),
                at: (!self.lost.is_nothing()).then_some(now + PAUSE_MAX),
            },
            Sink::Away { since, next } => {
                let dropping = *since + GRACE;
                let at = match now < dropping {
                    true => dropping.min(*next),
                    false => *next,
                };
                Interest {
                    source: (now >= dropping).then(|| self.source.as_fd()),
                    sink: None,
                    at: Some(at),
                }
            }
        }
    }

    /// Does what can be done now, without waiting.
    pub fn advance(&mut self, found: Found, now: Instant) {
        if self.ended {
            return;
        }
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        match &mut self.sink {
            Sink::Open { full, .. } => {
                if found.sink.contains(PollFlags::OUT) {
                    *full = None;
                }
                if let Some(full) = full.as_mut().filter(|full| now >= full.look) {
                    full.deserted = !report::is_heard();
                    full.look = now + GRACE;
                }
                if found.sink.intersects(gone) {
                    self.lose_sink(now);
                }
            }
            Sink::Away { next, .. } => {
                if now >= *next {
                    self.reconnect(now);
                }
            }
        }
        let ready = found.source || !self.buffer.is_empty();
        match &self.sink {
            Sink::Open { full: None, .. } if ready => self.pump(found, now),
            Sink::Open {
                full: Some(Full { deserted: true, .. }),
                ..
            } if found.source => self.discard(),
            Sink::Away { since, .. } if found.source && now >= *since + GRACE => self.discard(),
            Sink::Open { .. } | Sink::Away { .. } => {}
        }
        self.report();
    }

    fn pump(&mut self, found: Found, now: Instant) {
        let Sink::Open { stream, .. } = &self.sink else {
            return;
        };
        let moved = match self.way {
            Way::Splice => {
                let source = self.source.as_fd();
                // A pipe is full when its slots are, whatever few bytes are in them: a beginning of a
                // line in a full one has to go, or the container waits for ever.
                let full = self
                    .hold
                    .as_ref()
                    .is_some_and(|hold| pipe::is_full(hold.as_fd()));
                let take = |lines: &mut Lines| match lines.take(source, SPLICE_MAX_BYTES) {
                    0 if full => SPLICE_MAX_BYTES,
                    count => count,
                };
                match self.lines.as_mut().map(take) {
                    None => pipe::splice(source, stream.as_fd(), SPLICE_MAX_BYTES),
                    Some(0) => Moved::Empty,
                    Some(_) if !has_room(stream.as_fd()) => Moved::Blocked,
                    Some(count) => pipe::splice(source, stream.as_fd(), count),
                }
            }
            Way::Copy => {
                let source = found.source.then(|| self.source.as_fd());
                self.buffer.pump(source, stream.as_fd(), self.kind)
            }
        };
        match moved {
            Moved::Bytes(_) => self.sample(),
            Moved::Empty => {}
            Moved::Blocked => {
                if let Sink::Open { full, .. } = &mut self.sink {
                    *full = Some(Full {
                        look: now + GRACE,
                        deserted: false,
                    });
                }
            }
            // With a hold there is no end, only a program that closed its output for a while.
            Moved::End => self.ended = self.hold.is_none(),
            Moved::Unsupported => {
                self.way = Way::Copy;
                self.lines = None;
            }
            Moved::SinkGone | Moved::Failed(_) => self.lose_sink(now),
        }
    }

    fn sample(&mut self) {
        if let Sink::Open { stream, unread, .. } = &mut self.sink {
            *unread = inherit::unread(stream.as_fd());
        }
    }

    /// The journal's end is gone. A stream that did not live long is followed by a pause: journald
    /// that accepts and closes at once, as it does beyond 4096 streams, must not keep us busy.
    fn lose_sink(&mut self, now: Instant) {
        if let Sink::Open {
            stream,
            since,
            unread,
            ..
        } = &self.sink
        {
            // The kernel says "reset" when journald closed with bytes of ours unread.
            let reset = rustix::net::sockopt::socket_error(stream);
            if matches!(reset, Ok(Err(Errno::CONNRESET))) {
                self.lost.unread += unread;
            }
            self.pause = match now.duration_since(*since) >= SETTLED {
                true => Duration::ZERO,
                false => (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX),
            };
        }
        self.sink = Sink::Away {
            since: now,
            next: now + self.pause,
        };
        if self.pause.is_zero() {
            self.reconnect(now);
        }
    }

    fn reconnect(&mut self, now: Instant) {
        match stream::connect(&self.header) {
            Ok(stream) => self.sink = Sink::opened(stream, now),
            Err(_) => {
                self.pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
                if let Sink::Away { next, .. } = &mut self.sink {
                    *next = now + self.pause;
                }
            }
        }
    }

    fn discard(&mut self) {
        let mut bytes = [0; DISCARD_BYTES];
        for _ in 0..DISCARDS_MAX {
            match rustix::io::read(&self.source, &mut bytes) {
                Ok(0) => {
                    self.ended = self.hold.is_none();
                    return;
                }
                Ok(count) => self.lost.count(bytes.get(..count).unwrap_or_default()),
                Err(Errno::IO) => {
                    self.ended = self.hold.is_none();
                    return;
                }
                Err(_) => return,
            }
            // The source may be a blocking descriptor.
            if pipe::pending(self.source.as_fd()) == 0 {
                return;
            }
        }
    }

    /// Says what was lost, once the journal is there to be told.
    fn report(&mut self) {
        if self.lost.is_nothing() || !matches!(self.sink, Sink::Open { full: None, .. }) {
            return;
        }
        let entry = Entry::Lost {
            bytes: self.lost.bytes,
            lines: self.lost.lines,
            unread: self.lost.unread,
        };
        if report::send(entry, self.header.unit) {
            self.lost = Lost::default();
        }
    }
}

impl Sink {
    fn opened(stream: OwnedFd, now: Instant) -> Self {
        Self::Open {
            stream,
            since: now,
            full: None,
            unread: 0,
        }
    }
}

impl Lost {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

/// Whether all that a FIFO holds fits into `stream`, so that no splice ends within a line: the
/// kernel calls a stream writable while three quarters of its 208 KiB are free.
fn has_room(stream: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(stream, PollFlags::OUT)];
    rustix::event::poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Opens the other end of the terminal, so that the master does not hang up when the container has
/// it closed for a moment, and gives it a size if it has none.
fn open_console(master: BorrowedFd<'_>) -> sys::Result<OwnedFd> {
    let opening = |errno| sys::Error::new("ioctl(TIOCGPTPEER)", errno);
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(master, flags).map_err(opening)?;
    let size = rustix::termios::tcgetwinsize(master).map_err(opening)?;
    if size.ws_row == 0 && size.ws_col == 0 {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(master, size)
            .map_err(|errno| sys::Error::new("ioctl(TIOCSWINSZ)", errno))?;
    }
    Ok(slave)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted() {
        let mut lost = Lost::default();
        lost.count(b"a\nb\nc");
        assert_eq!((lost.bytes, lost.lines), (5, 2));
    }
}
