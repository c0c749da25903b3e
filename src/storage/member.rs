// SPDX-License-Identifier: Apache-2.0
//! Members of a tar archive, in order, without unpacking anything.
//!
//! The `tar` crate decodes the 512-byte headers. The framing around them is here, because the
//! crate's iterator reads extension headers of any size into memory, takes an archive without an
//! end mark for a whole one, and ignores malformed extended records; readers that differ in such
//! cases see different members (threats T15). What is ambiguous is refused, never guessed.

use std::io::{self, Read, Seek, SeekFrom};

use anyhow::{Context as _, anyhow, bail};

use super::pax::{self, Pax};
use crate::sys::dir::Time;

const BLOCK_BYTES: u64 = 512;

/// Largest body of an extended header: 1 MiB, as Go's archive/tar has it.
pub(super) const PAX_BYTES_MAX: u64 = 1 << 20;

/// Largest body of a GNU long name; the kernel takes 4096 bytes.
const LONG_NAME_BYTES_MAX: u64 = 16 << 10;

/// Where some fields of a POSIX header begin.
const DEVICE_MAJOR_AT: usize = 329;
const DEVICE_MINOR_AT: usize = 337;
const PREFIX_AT: usize = 345;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file with its content.
    File,
    /// Another name of a member before it.
    HardLink,
    /// A symbolic link.
    Link,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// One member, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: MemberKind,
    /// Its name, byte for byte.
    pub path: Vec<u8>,
    /// What a link points to.
    pub link: Vec<u8>,
    /// Bytes of content; 0 unless it is a file.
    pub size: u64,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub time: Time,
    /// Device number of a device.
    pub device: (u32, u32),
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the content begins in the archive.
    pub offset: u64,
}

/// A name as text for people: control and format characters and invalid UTF-8 are escaped
/// (threats T27).
pub fn printable(name: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    let mut text = String::new();
    for chunk in name.utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_debug));
        text.extend(chunk.invalid().escape_ascii().map(char::from));
        if text.chars().count() > SHOWN_CHARS_MAX {
            text = text.chars().take(SHOWN_CHARS_MAX).collect();
            text.push('…');
            break;
        }
    }
    text
}

/// Reads the members of an archive.
///
/// As a reader it gives the content of the member that [`Members::read_next`] returned last.
#[derive(Debug)]
pub struct Members<R> {
    reader: R,
    /// Bytes read from `reader`.
    offset: u64,
    /// Content of the current member that was not read.
    content: u64,
    /// Padding after it.
    padding: u64,
}

/// Headers that describe the member after them.
#[derive(Default)]
struct Prefix {
    pax: Option<Pax>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Prefix {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }
}

impl<R: Read> Members<R> {
    /// The members of the archive that `reader` gives, decompressed.
    pub fn new(reader: R) -> Self {
        Self {
            reader,
            offset: 0,
            content: 0,
            padding: 0,
        }
    }

    /// The next member; none at the end mark. What was not read of the last one is skipped.
    pub fn read_next(&mut self) -> anyhow::Result<Option<Member>> {
        let unread = self.content + self.padding;
        let skipped = io::copy(&mut (&mut self.reader).take(unread), &mut io::sink())?;
        if skipped != unread {
            return Err(unexpected_end());
        }
        self.header_after(unread)
    }

    /// Reads what is left after the end mark, so that a hash of the archive covers every byte.
    ///
    /// # Errors
    ///
    /// The bytes after the end mark are not all zeros: other readers would find more members.
    pub fn drain(mut self) -> anyhow::Result<R> {
        let mut buffer = [0; 8192];
        loop {
            let n = match self.reader.read(&mut buffer) {
                Ok(0) => return Ok(self.reader),
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err.into()),
            };
            if buffer.iter().take(n).any(|byte| *byte != 0) {
                bail!("the archive goes on after its end mark");
            }
        }
    }

    fn header_after(&mut self, unread: u64) -> anyhow::Result<Option<Member>> {
        self.offset += unread;
        (self.content, self.padding) = (0, 0);
        let mut prefix = Prefix::default();
        let mut global = false;
        loop {
            let at = self.offset;
            let block = self.block()?;
            if block.iter().all(|byte| *byte == 0) {
                if prefix.is_empty() && !global {
                    return Ok(None);
                }
                bail!("the archive ends after a header that describes another member");
            }
            let header = tar::Header::from_byte_slice(&block);
            check_header(header).with_context(|| match at {
                0 => "this is no tar archive".to_owned(),
                at => format!("reading the header at byte {at}"),
            })?;
            let name = || {
                let name = prefix.long_path.as_deref();
                let name = name.or(prefix.pax.as_ref().and_then(|pax| pax.path.as_deref()));
                printable(name.unwrap_or(&header.path_bytes()))
            };
            let kind = match header.as_old().linkflag {
                [b'x'] => {
                    let body = self.extension(header, PAX_BYTES_MAX)?;
                    let pax = pax::parse_local(&body)
                        .with_context(|| format!("reading the extended header at byte {at}"))?;
                    set_once(&mut prefix.pax, pax)?;
                    continue;
                }
                [b'g' | b'V'] if !prefix.is_empty() => {
                    bail!("an extended header before one that is no member; readers disagree")
                }
                [b'g'] => {
                    let body = self.extension(header, PAX_BYTES_MAX)?;
                    pax::check_global(&body)?;
                    global = true;
                    continue;
                }
                [b'L'] => {
                    let body = self.extension(header, LONG_NAME_BYTES_MAX)?;
                    set_once(&mut prefix.long_path, long_name(body)?)?;
                    continue;
                }
                [b'K'] => {
                    let body = self.extension(header, LONG_NAME_BYTES_MAX)?;
                    set_once(&mut prefix.long_link, long_name(body)?)?;
                    continue;
                }
                [b'V'] => {
                    // A volume label: a name for people, no member.
                    self.extension(header, 0)?;
                    continue;
                }
                [flag] => member_kind(flag)
                    .with_context(|| format!("reading the header of entry '{}'", name()))?,
            };
            let shown = name();
            return self
                .member(header, prefix, kind)
                .map(Some)
                .with_context(|| format!("reading the header of entry '{shown}'"));
        }
    }

    fn member(
        &mut self,
        header: &tar::Header,
        prefix: Prefix,
        kind: MemberKind,
    ) -> anyhow::Result<Member> {
        if prefix.pax.is_some() && (prefix.long_path.is_some() || prefix.long_link.is_some()) {
            bail!("both an extended header and a GNU long name; readers disagree which one counts");
        }
        let pax = prefix.pax.unwrap_or_default();
        let old = header.as_old();
        let path = prefix.long_path.or(pax.path);
        let is_old_directory = old.linkflag == [0] && header.path_bytes().ends_with(b"/");
        if is_old_directory && path.is_some() {
            bail!("a directory of tar before POSIX with a long name; readers disagree");
        }
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = prefix.long_link.or(pax.link);
        let link = link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let size = match pax.size {
            Some(size) => size,
            None => number(&old.size).context("field 'size'")?,
        };
        let owner = |given: Option<u32>, field: &[u8]| match given {
            Some(id) => Ok(id),
            None => pax::check_owner(number(field)?),
        };
        let time = match pax.time {
            Some(time) => time,
            None => header_time(&old.mtime).context("field 'mtime'")?,
        };
        let device = match kind {
            MemberKind::CharDevice | MemberKind::BlockDevice => device(header)?,
            MemberKind::File
            | MemberKind::HardLink
            | MemberKind::Link
            | MemberKind::Directory
            | MemberKind::Fifo => (0, 0),
        };
        let kind = match kind {
            // How tar before POSIX wrote directories; every reader takes it so.
            MemberKind::File if is_old_directory && size == 0 => MemberKind::Directory,
            MemberKind::File if path.ends_with(b"/") => {
                bail!("the name of a file ends in '/'; readers disagree whether it is a directory")
            }
            kind => kind,
        };
        let link = link.unwrap_or_default();
        if kind == MemberKind::HardLink && link.is_empty() {
            bail!("a hard link to nothing");
        }
        if kind != MemberKind::File && size != 0 {
            bail!("field 'size' is {size}, but only files have content");
        }
        self.content = size;
        self.padding = padding(size)?;
        Ok(Member {
            kind,
            path,
            link,
            size,
            mode: u32::try_from(number(&old.mode).context("field 'mode'")? & 0o7777)?,
            uid: owner(pax.uid, &old.uid).context("field 'uid'")?,
            gid: owner(pax.gid, &old.gid).context("field 'gid'")?,
            time,
            device,
            xattrs: pax.xattrs.into_iter().collect(),
            offset: self.offset,
        })
    }

    /// Reads one block; the end of the archive is never where a block is expected.
    fn block(&mut self) -> anyhow::Result<[u8; 512]> {
        let mut block = [0; 512];
        self.reader
            .read_exact(&mut block)
            .map_err(end_is_an_error)?;
        self.offset += BLOCK_BYTES;
        Ok(block)
    }

    /// Reads the body of a header that describes the next member.
    fn extension(&mut self, header: &tar::Header, limit: u64) -> anyhow::Result<Vec<u8>> {
        let size = number(&header.as_old().size).context("field 'size'")?;
        if size > limit {
            bail!("an extended header of {size} bytes; at most {limit} are accepted");
        }
        let padded = size + padding(size)?;
        let mut body = vec![0; usize::try_from(padded)?];
        self.reader.read_exact(&mut body).map_err(end_is_an_error)?;
        self.offset += padded;
        let rest = body.split_off(usize::try_from(size)?);
        // Python's tarfile reads on to the end of the block.
        if rest.iter().any(|byte| *byte != 0) {
            bail!("an extended header goes on after its end; readers disagree");
        }
        Ok(body)
    }
}

impl<R: Read + Seek> Members<R> {
    /// As [`Members::read_next`], but seeks over content.
    pub fn seek_next(&mut self) -> anyhow::Result<Option<Member>> {
        let unread = self.content + self.padding;
        self.reader
            .seek(SeekFrom::Current(i64::try_from(unread)?))?;
        self.header_after(unread)
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.content == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let most = usize::try_from(self.content)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let n = self
            .reader
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, UNEXPECTED_END));
        }
        self.content -= n as u64;
        self.offset += n as u64;
        Ok(n)
    }
}

const UNEXPECTED_END: &str = "unexpected end of the archive";

fn unexpected_end() -> anyhow::Error {
    anyhow!(UNEXPECTED_END)
}

fn end_is_an_error(err: io::Error) -> anyhow::Error {
    if err.kind() == io::ErrorKind::UnexpectedEof {
        unexpected_end()
    } else {
        err.into()
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> anyhow::Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => bail!("two extended headers of one kind for the same member"),
    }
}

fn long_name(mut body: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if body.last() == Some(&0) {
        body.pop();
    }
    if body.is_empty() || body.contains(&0) {
        bail!("a GNU long name is empty or holds a NUL");
    }
    Ok(body)
}

fn member_kind(flag: u8) -> anyhow::Result<MemberKind> {
    match flag {
        // '7' is a file that asks to be stored in one piece, which nobody does.
        b'0' | b'\0' | b'7' => Ok(MemberKind::File),
        b'1' => Ok(MemberKind::HardLink),
        b'2' => Ok(MemberKind::Link),
        b'3' => Ok(MemberKind::CharDevice),
        b'4' => Ok(MemberKind::BlockDevice),
        b'5' => Ok(MemberKind::Directory),
        b'6' => Ok(MemberKind::Fifo),
        b'S' => bail!("sparse members are not supported; layers must not hold them"),
        other => bail!("unknown type '{}'", other.escape_ascii()),
    }
}

/// Checks the fields that other readers take into account even where nothing depends on them here:
/// Python's tarfile ends the archive at a header with a damaged number in it.
fn check_header(header: &tar::Header) -> anyhow::Result<()> {
    check_sum(header)?;
    let old = header.as_old();
    let device = |at: usize| header.as_bytes().get(at..at + 8).unwrap_or_default();
    for (name, field) in [
        ("mode", &old.mode[..]),
        ("uid", &old.uid),
        ("gid", &old.gid),
        ("size", &old.size),
        ("mtime", &old.mtime),
        ("devmajor", device(DEVICE_MAJOR_AT)),
        ("devminor", device(DEVICE_MINOR_AT)),
    ] {
        let checked = || -> anyhow::Result<()> {
            let value = number(field)?;
            // GNU tar takes no blanks for a number, except where it reads none.
            if !name.starts_with("dev") && is_blank(field) {
                bail!("it is blank");
            }
            if name.ends_with("id") {
                pax::check_owner(value)?;
            }
            Ok(())
        };
        checked().with_context(|| format!("field '{name}'"))?;
    }
    let has_prefix = header
        .as_bytes()
        .get(PREFIX_AT)
        .is_some_and(|byte| *byte != 0);
    if has_prefix && header.as_ustar().is_none() {
        bail!(
            "field 'prefix' is set in a header that is not POSIX's; readers disagree on the name"
        );
    }
    Ok(())
}

fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| *byte == b' ')
}

fn check_sum(header: &tar::Header) -> anyhow::Result<()> {
    let field = &header.as_old().cksum;
    let blanks = field.len() as u64 * u64::from(b' ');
    let all: u64 = header.as_bytes().iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field.iter().map(|byte| u64::from(*byte)).sum();
    let stored = number(field).context("field 'checksum'")?;
    let computed = all - own + blanks;
    if stored != computed {
        bail!("field 'checksum' is {stored}, but the header adds up to {computed}");
    }
    Ok(())
}

/// A number in octal, or in base 256 when the first bit is set. Blank is 0.
fn number(field: &[u8]) -> anyhow::Result<u64> {
    let wrong = || anyhow!("'{}' is not a number", field.escape_ascii());
    // GNU tar skips a NUL before the digits, others take it for the end.
    if field.first() == Some(&0) && field.iter().any(|byte| *byte != 0) {
        return Err(wrong());
    }
    match field.split_first() {
        Some((0x80, rest)) => rest.iter().try_fold(0_u64, |value, byte| {
            value
                .checked_mul(256)
                .map(|value| value | u64::from(*byte))
                .filter(|value| i64::try_from(*value).is_ok())
                .ok_or_else(|| anyhow!("out of range"))
        }),
        // 0xff begins a negative number; nothing here can be negative but a time.
        Some((first, _)) if first & 0x80 != 0 => Err(anyhow!("negative or out of range")),
        Some(_) | None => {
            let end = field.iter().position(|byte| *byte == 0);
            let text = field.get(..end.unwrap_or(field.len())).unwrap_or_default();
            let text = str::from_utf8(text).map_err(|_| wrong())?.trim_matches(' ');
            if !text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
                return Err(wrong());
            }
            if text.is_empty() {
                return Ok(0);
            }
            u64::from_str_radix(text, 8).map_err(|_| wrong())
        }
    }
}

fn header_time(field: &[u8]) -> anyhow::Result<Time> {
    let seconds = pax::check_time(i64::try_from(number(field)?)?)?;
    Ok(Time {
        seconds,
        nanoseconds: 0,
    })
}

/// Linux has 12 bits of major and 20 of minor numbers; more would be cut off (threats T11).
fn device(header: &tar::Header) -> anyhow::Result<(u32, u32)> {
    let (major, minor) = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
        (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
        (None, None) => bail!("a device without a device number"),
    };
    let limited = |field: &[u8], bits: u32| -> anyhow::Result<u32> {
        let value = number(field)?;
        if is_blank(field) {
            bail!("it is blank");
        }
        if value >> bits != 0 {
            bail!("{value} is out of range");
        }
        Ok(u32::try_from(value)?)
    };
    Ok((
        limited(major, 12).context("field 'devmajor'")?,
        limited(minor, 20).context("field 'devminor'")?,
    ))
}

fn padding(size: u64) -> anyhow::Result<u64> {
    let padded = size
        .checked_next_multiple_of(BLOCK_BYTES)
        .filter(|padded| i64::try_from(*padded).is_ok())
        .ok_or_else(|| anyhow!("field 'size' is {size}, which is out of range"))?;
    Ok(padded - size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
                Some(i64::MAX as u64),
            ),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None),
            (b"\x80\x01\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\x81\0\0\0\0\0\0\0", None),
            (b"+000644\0", None),
            (b"-000644\0", None),
            (b"0000648\0", None),
            (b"12 34  \0", None),
            (b"0x1f\0\0\0\0", None),
            (b"\x000000644", None),
        ] {
            assert_eq!(number(field).ok(), expected, "T16 {}", field.escape_ascii());
        }
    }

    #[test]
    fn t27_names_are_printed_escaped() {
        for (name, text) in [
            (&b"etc/passwd"[..], "etc/passwd"),
            (b"a\nb\x1b[31m", "a\\nb\\u{1b}[31m"),
            ("x\u{202e}y".as_bytes(), "x\\u{202e}y"),
            (b"bad\xff\xfe", "bad\\xff\\xfe"),
            ("é".as_bytes(), "é"),
        ] {
            assert_eq!(printable(name), text);
        }
        assert!(printable(&[b'a'; 5000]).len() < 300);
    }
}
