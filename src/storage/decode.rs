// SPDX-License-Identifier: Apache-2.0
//! Decompression, in this process only: nothing of PATH ever sees a layer (threats T24).
//!
//! What the bytes say wins: the format is told by its magic number, and a media type that says
//! otherwise is an error of the caller. Memory is bounded by the formats' windows, those of all
//! streams of the process together.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::{Condvar, Mutex, PoisonError};

/// The largest zstd window that is accepted, as a power of two: 32 MiB. `zstd -19` needs 8 MiB,
/// `--ultra -20` needs all of it.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// What zstd windows of all streams may take together. A stream with a large window has it for
/// itself, and the others wait for it to end.
const ZSTD_WINDOWS_BYTES: u64 = 1 << ZSTD_WINDOW_LOG_MAX;

/// The window that a stream may have at the least, as a power of two, so that a later frame can
/// have a larger one than the first: 8 MiB.
const ZSTD_WINDOW_LOG_USUAL: u32 = 23;

const BUFFER_BYTES: usize = 64 << 10;

/// The longest magic number, and the longest header of a zstd frame.
const START_BYTES_MAX: u64 = 18;

const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// A reader whose first bytes were looked at.
pub type Start<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A format of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A reader of plain bytes.
pub enum Decoder<R: BufRead> {
    /// The bytes as they are.
    Plain(R),
    /// gzip, with as many members as there are.
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    /// zstd, with as many frames as there are.
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>, Window),
}

/// Memory that was set apart for a window; given back on drop.
#[derive(Debug)]
pub struct Window {
    bytes: u64,
}

/// Bytes that windows take.
static WINDOWS: Mutex<u64> = Mutex::new(0);
static WINDOW_FREED: Condvar = Condvar::new();

impl Window {
    /// Waits until there is room.
    fn reserve(log: u32) -> Self {
        let bytes = 1 << log;
        let taken = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut u64| *taken + bytes > ZSTD_WINDOWS_BYTES;
        let mut taken = WINDOW_FREED
            .wait_while(taken, full)
            .unwrap_or_else(PoisonError::into_inner);
        *taken += bytes;
        Self { bytes }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let mut taken = WINDOWS.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(self.bytes);
        WINDOW_FREED.notify_all();
    }
}

/// The window that the first frame asks for, as a power of two (RFC 8878, 3.1.1.1); all that is
/// allowed when the beginning is not a frame.
fn window_log(start: &[u8]) -> u32 {
    let (Some(&descriptor), true) = (start.get(4), start.starts_with(ZSTD_MAGIC)) else {
        return ZSTD_WINDOW_LOG_MAX;
    };
    let is_single_segment = descriptor & 0x20 != 0;
    let bytes = if is_single_segment {
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
        let field = start.get(5 + dictionary..5 + dictionary + length);
        let little = field.unwrap_or(&[0xff; 8]).iter().rev();
        let size = little.fold(0_u64, |size, byte| size << 8 | u64::from(*byte));
        if length == 2 {
            size.saturating_add(256)
        } else {
            size
        }
    } else {
        let window = u64::from(start.get(5).copied().unwrap_or(0xff));
        let base = 1_u64 << (10 + (window >> 3));
        base + base / 8 * (window & 7)
    };
    let log = u64::BITS - bytes.saturating_sub(1).leading_zeros();
    log.clamp(ZSTD_WINDOW_LOG_USUAL, ZSTD_WINDOW_LOG_MAX)
}

impl<R: BufRead> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decoder").field(&self.compression()).finish()
    }
}

/// Decompresses `reader`, whatever its format is.
///
/// # Errors
///
/// `InvalidData` for a format that is known and not supported (bzip2, xz, lz4, …).
pub fn decode<R: Read>(mut reader: R) -> io::Result<Decoder<Start<R>>> {
    let mut start = Vec::new();
    (&mut reader)
        .take(START_BYTES_MAX)
        .read_to_end(&mut start)?;
    let compression = detect(&start)?;
    let log = window_log(&start);
    let reader = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(reader));
    match compression {
        Compression::Plain => Ok(Decoder::Plain(reader)),
        Compression::Gzip => Ok(Decoder::Gzip(Box::new(
            flate2::bufread::MultiGzDecoder::new(reader),
        ))),
        Compression::Zstd => {
            let window = Window::reserve(log);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(log)?;
            Ok(Decoder::Zstd(Box::new(decoder), window))
        }
    }
}

fn detect(start: &[u8]) -> io::Result<Compression> {
    const FOREIGN: [(&[u8], &str); 5] = [
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\x1f\x9d", "compress"),
        (b"PK\x03\x04", "zip"),
    ];
    // Skippable frames of zstd have sixteen magic numbers.
    let skippable = matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Compression::Gzip);
    }
    if skippable || start.starts_with(ZSTD_MAGIC) {
        return Ok(Compression::Zstd);
    }
    match FOREIGN.iter().find(|(magic, _)| start.starts_with(magic)) {
        Some((_, name)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("compressed with {name}; only gzip and zstd are supported"),
        )),
        None => Ok(Compression::Plain),
    }
}

impl<R: BufRead> Decoder<R> {
    /// The format that was found.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::Plain,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(..) => Compression::Zstd,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder, _) => decoder.read(buffer),
        }
        .map_err(|err| match err.kind() {
            io::ErrorKind::Interrupted => err,
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(err.kind(), "unexpected end of the compressed data")
            }
            _ => err,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::stream::encode_all(bytes, 1).unwrap()
    }

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        decode(bytes)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn t22_members_and_frames_are_joined() {
        let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0xyz";
        for (bytes, expected) in [
            (b"plain".to_vec(), "plain"),
            (gzip(b"one"), "one"),
            ([gzip(b"one"), gzip(b"two")].concat(), "onetwo"),
            ([zstd(b"one"), zstd(b"two")].concat(), "onetwo"),
            ([&skippable[..], &zstd(b"one")].concat(), "one"),
            ([&zstd(b"one")[..], skippable].concat(), "one"),
        ] {
            assert_eq!(decoded(&bytes).unwrap(), expected.as_bytes(), "{bytes:?}");
        }
    }

    #[test]
    fn t22_t24_garbage_and_foreign_formats_are_errors() {
        let whole = gzip(b"some content");
        for bytes in [
            [&whole[..], b"garbage"].concat(),
            [&whole[..], &[0; 512]].concat(),
            whole[..whole.len() - 1].to_vec(),
            whole[..4].to_vec(),
            [&zstd(b"one")[..], b"garbage"].concat(),
            zstd(b"one content")[..9].to_vec(),
            b"BZh91AY".to_vec(),
            b"\xfd7zXZ\0\0".to_vec(),
            b"\x04\x22\x4d\x18xxxx".to_vec(),
        ] {
            assert!(decoded(&bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn t21_windows_are_read_from_the_first_frame() {
        for (log, expected) in [(10, 23), (23, 23), (24, 24), (25, 25), (27, 25)] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.include_contentsize(false).unwrap();
            encoder.write_all(&[7; 100_000]).unwrap();
            assert_eq!(window_log(&encoder.finish().unwrap()), expected, "{log}");
        }
        // A single segment: its window is as large as its content.
        assert_eq!(window_log(b"\x28\xb5\x2f\xfd\xa0\0\0\0\x02"), 25);
        assert_eq!(window_log(b"\x28\xb5\x2f\xfd\xa0\0\0\0\x01"), 24);
        assert_eq!(window_log(b"\x28\xb5\x2f\xfd\x20\x05"), 23);
        assert_eq!(window_log(b"\x50\x2a\x4d\x18"), 25);
    }

    #[test]
    fn t21_a_large_zstd_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 100_000]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(decoded(&bytes).is_err());
    }
}
