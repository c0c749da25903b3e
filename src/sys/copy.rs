// SPDX-License-Identifier: Apache-2.0
//! Copying content from file to file, holes included.
//!
//! A file of a container may say that it is a tebibyte long and hold nothing; only what is stored
//! is read and written (threats F3).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{Error, Result};

const BUFFER_BYTES: usize = 256 << 10;

/// Copies the first `size` bytes of `from` into the empty file `to`, and returns how many `from`
/// had: if it has become shorter, `to` ends with a hole.
pub fn copy_content(from: &File, to: &File, size: u64) -> Result<u64> {
    let failed = |err: io::Error| Error::new(format!("copy({size} bytes)"), err);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = 0;
    while at < size {
        let data = match seek(from, SeekFrom::Data(at)) {
            Ok(data) => data.min(size),
            // Only a hole is left, or nothing.
            Err(Errno::NXIO) => size,
            // The file system does not know of holes.
            Err(Errno::INVAL) => at,
            Err(err) => return Err(Error::new("lseek(SEEK_DATA)", err)),
        };
        let end = match seek(from, SeekFrom::Hole(data)) {
            Ok(hole) => hole.min(size),
            Err(Errno::NXIO | Errno::INVAL) => size,
            Err(err) => return Err(Error::new("lseek(SEEK_HOLE)", err)),
        };
        at = copy_range(from, to, (data, end), &mut buffer).map_err(failed)?;
        if at < end {
            break;
        }
    }
    to.set_len(size).map_err(failed)?;
    let now = from.metadata().map_err(failed)?;
    Ok(now.len().min(size))
}

/// Copies a range; returns where it ended, which is before its end if the file has become shorter.
fn copy_range(
    from: &File,
    to: &File,
    (mut at, end): (u64, u64),
    buffer: &mut [u8],
) -> io::Result<u64> {
    while at < end {
        let most = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = match from.read_at(buffer.get_mut(..most).unwrap_or_default(), at) {
            Ok(0) => break,
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        to.write_all_at(buffer.get(..n).unwrap_or_default(), at)?;
        at += n as u64;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn f3_a_tebibyte_of_nothing_costs_nothing() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let size = 1 << 40;
        from.set_len(size).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 1 << 39).unwrap();
        assert_eq!(copy_content(&from, &to, size).unwrap(), size);
        let copy = to.metadata().unwrap();
        assert_eq!(copy.len(), size);
        assert!(copy.blocks() < 100, "{} blocks", copy.blocks());
        let mut text = [0; 6];
        to.read_exact_at(&mut text, 1 << 39).unwrap();
        assert_eq!(&text, b"middle");
    }

    #[test]
    fn f5_a_file_that_became_shorter() {
        let (from, to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all_at(b"0123456789", 0).unwrap();
        assert_eq!(copy_content(&from, &to, 20).unwrap(), 10);
        let mut bytes = vec![1; 20];
        to.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"0123456789\0\0\0\0\0\0\0\0\0\0");
        let longer = tempfile::tempfile().unwrap();
        assert_eq!(copy_content(&from, &longer, 4).unwrap(), 4);
        assert_eq!(longer.metadata().unwrap().len(), 4);
    }
}
