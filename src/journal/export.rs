// SPDX-License-Identifier: Apache-2.0
//! The Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS), read entry by entry.
//!
//! Unlike JSON it carries any byte of a message unchanged. A text field is `NAME=value`; a binary
//! one is `NAME`, a little-endian length and that many bytes; an empty line ends an entry.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

/// Largest field we take: journald's own limit for one sent over its socket (DATA_SIZE_MAX).
const FIELD_MAX_BYTES: u64 = 768 << 20;

/// One journal entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The bytes of a field; the first one when it is there several times.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(field, _)| field == name.as_bytes())
            .map(|(_, value)| value.as_slice())
    }

    /// A field as text; what is not UTF-8 is replaced.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.bytes(name).map(String::from_utf8_lossy)
    }

    /// When journald received the entry, in microseconds of the real-time clock.
    pub fn realtime_micros(&self) -> Option<i64> {
        self.text("__REALTIME_TIMESTAMP")?.parse().ok()
    }
}

/// Reads the next entry; none at the end.
pub(super) fn read_entry(input: &mut impl BufRead) -> io::Result<Option<Entry>> {
    let mut entry = Entry::default();
    loop {
        let mut line = Vec::new();
        let length = input
            .by_ref()
            .take(FIELD_MAX_BYTES)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            let whole = !entry.fields.is_empty();
            return Ok(whole.then_some(entry));
        }
        if line.pop_if(|last| *last == b'\n').is_none() {
            return Err(torn());
        }
        if line.is_empty() {
            if entry.fields.is_empty() {
                continue;
            }
            return Ok(Some(entry));
        }
        match line.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let value = line.split_off(at + 1);
                line.pop();
                entry.fields.push((line, value));
            }
            None => entry.fields.push((line, read_binary(input)?)),
        }
    }
}

fn read_binary(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    input.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > FIELD_MAX_BYTES {
        return Err(torn());
    }
    // Grows as bytes arrive: a length alone reserves nothing.
    let mut value = Vec::new();
    input.by_ref().take(length + 1).read_to_end(&mut value)?;
    if value.len() as u64 != length + 1 || value.pop() != Some(b'\n') {
        return Err(torn());
    }
    Ok(value)
}

fn torn() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "journalctl's output is not in the Journal Export Format",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_fields() {
        let mut input = b"__REALTIME_TIMESTAMP=42\nMESSAGE=a=b\n\nMESSAGE\n".to_vec();
        input.extend(4_u64.to_le_bytes());
        input.extend(b"\x1b\n\n\xff\nPRIORITY=6\n\n");
        let mut reader = input.as_slice();
        let first = read_entry(&mut reader).unwrap().unwrap();
        assert_eq!(first.bytes("MESSAGE"), Some(&b"a=b"[..]));
        assert_eq!(first.realtime_micros(), Some(42));
        let second = read_entry(&mut reader).unwrap().unwrap();
        assert_eq!(second.bytes("MESSAGE"), Some(&b"\x1b\n\n\xff"[..]));
        assert_eq!(second.text("PRIORITY").as_deref(), Some("6"));
        assert_eq!(read_entry(&mut reader).unwrap(), None);
    }

    #[test]
    fn a_torn_stream_is_an_error() {
        let mut long = b"MESSAGE\n".to_vec();
        long.extend(u64::MAX.to_le_bytes());
        let mut short = b"MESSAGE\n".to_vec();
        short.extend(9_u64.to_le_bytes());
        short.extend(b"abc");
        for input in [long, short, b"MESSAGE=no line feed".to_vec()] {
            assert!(read_entry(&mut input.as_slice()).is_err(), "{input:?}");
        }
    }
}
