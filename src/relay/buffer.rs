// SPDX-License-Identifier: Apache-2.0
//! Moving bytes through memory, where they must be looked at or cannot be spliced.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::sys::pipe::Moved;

/// What the bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The read end of a FIFO.
    Fifo,
    /// The master of a pseudo-terminal, whose CR LF become LF.
    Console,
}

/// What is read at once.
const BUFFER_BYTES: usize = 4096;

/// Bytes that were read and not yet written.
///
/// Room for them is made at the first use: most flows never have one, and two pages in each of two
/// processes are a good part of what the relay takes.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// A CR was the last byte read; it counts only if no LF follows.
    carriage_return: bool,
}

impl Buffer {
    /// Whether all of it was written.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// Writes what is left, or else what one read from `source` brings.
    pub fn pump(
        &mut self,
        source: Option<BorrowedFd<'_>>,
        sink: BorrowedFd<'_>,
        kind: Kind,
    ) -> Moved {
        if self.is_empty() {
            let Some(source) = source else {
                return Moved::Empty;
            };
            match self.fill(source, kind) {
                Ok(0) | Err(Errno::IO) => return Moved::End,
                Ok(_) => {}
                Err(Errno::AGAIN | Errno::INTR) => return Moved::Empty,
                Err(errno) => return Moved::Failed(errno),
            }
        }
        let rest = self.bytes.get(self.start..self.end).unwrap_or_default();
        if rest.is_empty() {
            return Moved::Empty;
        }
        match rustix::io::write(sink, rest) {
            Ok(count) => {
                self.start += count;
                Moved::Bytes(count)
            }
            Err(Errno::AGAIN) => Moved::Blocked,
            Err(Errno::INTR) => Moved::Empty,
            Err(_) => Moved::SinkGone,
        }
    }

    /// Reads once, and returns how many bytes were read.
    fn fill(&mut self, source: BorrowedFd<'_>, kind: Kind) -> rustix::io::Result<usize> {
        self.bytes.resize(BUFFER_BYTES, 0);
        let kept = usize::from(self.carriage_return);
        if let (true, Some(first)) = (self.carriage_return, self.bytes.first_mut()) {
            *first = b'\r';
        }
        let space = self.bytes.get_mut(kept..).unwrap_or_default();
        let count = rustix::io::read(source, space)?;
        self.start = 0;
        self.end = kept + count;
        if kind == Kind::Console {
            self.fold_line_ends();
        }
        Ok(count)
    }

    /// Turns CR LF into LF in place; a CR at the end waits for what follows it.
    fn fold_line_ends(&mut self) {
        let mut written = 0;
        self.carriage_return = false;
        for read in 0..self.end {
            let Some(&byte) = self.bytes.get(read) else {
                break;
            };
            if byte == b'\r' && read + 1 == self.end {
                self.carriage_return = true;
                break;
            }
            if byte == b'\r' && self.bytes.get(read + 1) == Some(&b'\n') {
                continue;
            }
            if let Some(slot) = self.bytes.get_mut(written) {
                *slot = byte;
            }
            written += 1;
        }
        self.end = written;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    /// What comes out of a copy of `chunks`, each read at once.
    fn copied(chunks: &[&[u8]], kind: Kind) -> Vec<u8> {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (sink, journal) = rustix::pipe::pipe().unwrap();
        let (mut buffer, mut out) = (Buffer::default(), vec![0; 100]);
        for chunk in chunks {
            rustix::io::write(&writer, chunk).unwrap();
            buffer.pump(Some(reader.as_fd()), journal.as_fd(), kind);
            assert!(buffer.is_empty());
        }
        drop(writer);
        let end = buffer.pump(Some(reader.as_fd()), journal.as_fd(), kind);
        assert_eq!(end, Moved::End);
        drop(journal);
        let count = rustix::io::read(&sink, &mut out).unwrap();
        out.truncate(count);
        out
    }

    #[test]
    fn line_ends_of_a_terminal_are_folded() {
        for (chunks, expected) in [
            (&[b"a\r\nb\r\n" as &[u8]] as &[&[u8]], b"a\nb\n" as &[u8]),
            (&[b"a\r", b"\nb"], b"a\nb"),
            (&[b"a\r", b"b\r\r\n"], b"a\rb\r\n"),
            (&[b"\r\n", b"\0\xff"], b"\n\0\xff"),
        ] {
            assert_eq!(copied(chunks, Kind::Console), expected, "{chunks:?}");
            assert_eq!(copied(chunks, Kind::Fifo), chunks.concat(), "{chunks:?}");
        }
    }
}
