// SPDX-License-Identifier: Apache-2.0
//! What the relay itself has to say, as journal entries of its own.
//!
//! Entries go over the native protocol with every text length-prefixed, from a buffer on the
//! stack, and never wait: a relay that waited for journald to say that journald is away would be
//! the next problem. (libsystemd's sender allocates and waits.)

use std::fmt;
use std::io;
use std::os::fd::AsFd as _;

use crate::journal::event::Event;
use crate::sys::socket::{self, Address, Blocking};

/// Where journald takes entries of the native protocol.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Longest entry; the longest message below and a long unit name fit.
const ENTRY_MAX_BYTES: usize = 1024;

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The worker ended while the container ran, and a new one goes on in its place.
    Died {
        /// The signal that killed it, or `None` if it ended by itself.
        signal: Option<i32>,
    },
    /// The journal was away, and output was dropped so that the container could go on.
    Lost {
        /// Bytes read and dropped.
        bytes: u64,
        /// Newlines among them.
        lines: u64,
        /// At most so many bytes more, that journald took and did not read before it ended.
        unread: u64,
    },
    /// The container asked systemd for something that is not passed on; said once.
    Refused,
}

impl Entry {
    fn message_id(self) -> &'static str {
        match self {
            Self::Died { .. } => Event::RelayDied.message_id(),
            Self::Lost { .. } => Event::OutputLost.message_id(),
            Self::Refused => Event::NotificationRefused.message_id(),
        }
    }

    fn priority(self) -> char {
        match self {
            Self::Died { .. } | Self::Lost { .. } => '3',
            Self::Refused => '4',
        }
    }

    fn message(self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Died {
                signal: Some(signal),
            } => write!(
                out,
                "relay was killed by signal {signal} while the container ran; a new one goes on"
            ),
            Self::Died { signal: None } => out.write_str(
                "relay ended by itself while the container ran; a new one goes on in its place",
            ),
            Self::Lost {
                bytes,
                lines,
                unread,
            } => write!(
                out,
                "journal was away: {bytes} bytes ({lines} lines) of output were lost, and at most \
                 {unread} bytes that journald had taken and not read"
            ),
            Self::Refused => out.write_str(
                "container asked systemd for what only the engine may ask, ignoring: see \
                 'notify' in wharf-container(5)",
            ),
        }
    }
}

/// Writes `entry` about `unit` to the journal. False if the journal takes nothing now.
#[must_use]
pub fn send(entry: Entry, unit: &str) -> bool {
    let mut buffer = Buffer::default();
    if render(&mut buffer, entry, unit).is_err() {
        return false;
    }
    let Ok(address) = Address::parse(SOCKET) else {
        return false;
    };
    socket::connect_datagram(&address, Blocking::Never)
        .is_ok_and(|socket| rustix::io::write(socket.as_fd(), buffer.bytes()).is_ok())
}

/// Whether journald, or systemd for one that is about to start, listens at all.
#[must_use]
pub fn is_heard() -> bool {
    let connected = Address::parse(SOCKET)
        .and_then(|address| socket::connect_datagram(&address, Blocking::Never));
    match connected {
        Ok(_) => true,
        // For want of memory or descriptors we cannot tell.
        Err(err) => !matches!(
            err.cause.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ),
    }
}

fn render(buffer: &mut Buffer, entry: Entry, unit: &str) -> fmt::Result {
    buffer.field("MESSAGE_ID", |out| {
        fmt::Write::write_str(out, entry.message_id())
    })?;
    buffer.field("PRIORITY", |out| {
        fmt::Write::write_char(out, entry.priority())
    })?;
    buffer.field("SYSLOG_IDENTIFIER", |out| {
        fmt::Write::write_str(out, "wharf-relay")
    })?;
    buffer.field("UNIT", |out| fmt::Write::write_str(out, unit))?;
    buffer.field("MESSAGE", |out| entry.message(out))
}

/// An entry in the making.
struct Buffer {
    bytes: [u8; ENTRY_MAX_BYTES],
    length: usize,
}

impl Default for Buffer {
    fn default() -> Self {
        Self {
            bytes: [0; ENTRY_MAX_BYTES],
            length: 0,
        }
    }
}

impl Buffer {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Appends `name`, newline, the value's length as 64 bits, the value, newline: no value can
    /// begin another field (threats L2).
    fn field(&mut self, name: &str, value: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.append(name.as_bytes())?;
        self.append(b"\n")?;
        let length_at = self.length;
        self.append(&[0; 8])?;
        let value_at = self.length;
        value(self)?;
        let length = (self.length - value_at) as u64;
        self.bytes
            .get_mut(length_at..value_at)
            .ok_or(fmt::Error)?
            .copy_from_slice(&length.to_le_bytes());
        self.append(b"\n")
    }

    fn append(&mut self, bytes: &[u8]) -> fmt::Result {
        let end = self.length + bytes.len();
        self.bytes
            .get_mut(self.length..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }
}

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_length_prefixed() {
        let mut buffer = Buffer::default();
        render(&mut buffer, Entry::Refused, "a\nPRIORITY=0").unwrap();
        let text = String::from_utf8_lossy(buffer.bytes());
        assert!(text.starts_with(&format!(
            "MESSAGE_ID\n \0\0\0\0\0\0\0{}\nPRIORITY\n\u{1}\0\0\0\0\0\0\04\n",
            Event::NotificationRefused.message_id()
        )));
        assert!(
            text.contains("UNIT\n\u{c}\0\0\0\0\0\0\0a\nPRIORITY=0\n"),
            "{text:?}"
        );
    }

    #[test]
    fn the_longest_entries_fit() {
        let longest = Entry::Lost {
            bytes: u64::MAX,
            lines: u64::MAX,
            unread: u64::MAX,
        };
        for entry in [longest, Entry::Died { signal: Some(64) }, Entry::Refused] {
            let mut buffer = Buffer::default();
            assert!(
                render(&mut buffer, entry, &"u".repeat(255)).is_ok(),
                "{entry:?}"
            );
        }
    }
}
