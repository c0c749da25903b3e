// SPDX-License-Identifier: Apache-2.0
//! Decompression, in this process only: nothing of PATH ever sees a layer (hostile-inputs T24).
//!
//! What the bytes say wins: the format is told by its magic number, and a media type that says
//! otherwise is an error of the caller. Memory is bounded by the formats' windows.

use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};

/// The largest zstd window that is accepted, as a power of two: 32 MiB. `zstd -19` needs 8 MiB,
/// `--ultra -20` needs all of it.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

const BUFFER_BYTES: usize = 64 << 10;

/// The longest magic number.
const MAGIC_BYTES_MAX: u64 = 6;

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
    Zstd(Box<zstd::stream::read::Decoder<'static, R>>),
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
        .take(MAGIC_BYTES_MAX)
        .read_to_end(&mut start)?;
    let compression = detect(&start)?;
    let reader = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(reader));
    match compression {
        Compression::Plain => Ok(Decoder::Plain(reader)),
        Compression::Gzip => Ok(Decoder::Gzip(Box::new(
            flate2::bufread::MultiGzDecoder::new(reader),
        ))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Decoder::Zstd(Box::new(decoder)))
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
    if skippable || start.starts_with(b"\x28\xb5\x2f\xfd") {
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
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
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
    fn t21_a_large_zstd_window_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 100_000]).unwrap();
        let bytes = encoder.finish().unwrap();
        assert!(decoded(&bytes).is_err());
    }
}
