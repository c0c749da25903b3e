// SPDX-License-Identifier: Apache-2.0
//! What an unpacked tree must look like, one line for each entry.
//!
//! Written once when a layer is unpacked, in an order that depends on nothing but the names; so a
//! later check writes the lines again and the first difference names the damage (threats S6, S7).
//! Times are left out, because file systems round them.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::member::printable;
use crate::digest::{Digest, Hashing};
use crate::sys::dir::{self, Dir, Entry, Kind, Names};
use crate::sys::root::{Links, Root};

/// Sums over a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries, the root included.
    pub entries: u64,
    /// Bytes of content of all names of files.
    pub bytes: u64,
}

/// Content digests by inode, of files without extended attributes.
#[derive(Debug, Default)]
pub struct Known {
    files: HashMap<u64, Digest>,
}

impl Known {
    /// Most files that are remembered, which bounds the memory; the others are read again.
    const FILES_MAX: usize = 57_000;

    /// Remembers a file that has just been written, without extended attributes.
    pub fn insert(&mut self, inode: u64, content: Digest) {
        if self.files.len() < Self::FILES_MAX || self.files.contains_key(&inode) {
            self.files.insert(inode, content);
        }
    }

    /// Forgets a file whose inode can be another's from now on.
    pub fn remove(&mut self, inode: u64) {
        self.files.remove(&inode);
    }

    /// Forgets all files.
    pub fn clear(&mut self) {
        self.files.clear();
    }
}

/// Most bytes of names that a walk remembers; a million of usual length take less.
const NAMES_BYTES_MAX: usize = 20 << 20;

/// A directory whose own directories are being visited.
struct Level {
    path: PathBuf,
    dirs: Names,
    next: usize,
}

/// Writes a line for each entry of the tree at `path` to `out`. The content of files whose inode is
/// in `known` is not read again.
pub fn write(path: &Path, out: &mut dyn Write, known: &Known) -> anyhow::Result<Totals> {
    let root = Root::open_with(path, Links::Refused)?;
    let mut totals = Totals::default();
    // No recursion, so any depth will do.
    let mut levels: Vec<Level> = Vec::new();
    let mut next = Some(PathBuf::new());
    while let Some(path) = next.take() {
        let taken = levels.iter().map(|level| level.dirs.cost()).sum();
        let room = NAMES_BYTES_MAX.saturating_sub(taken);
        let shown = || format!("reading '{}'", printable(path.as_os_str().as_bytes()));
        let dir = Dir::from(root.open_readable_dir(&path).with_context(shown)?);
        let mut walk = Walk {
            known,
            out: &mut *out,
            totals: &mut totals,
        };
        let dirs = walk.write_dir(&path, &dir, room).with_context(shown)?;
        levels.push(Level {
            path,
            dirs,
            next: 0,
        });
        while let (Some(level), None) = (levels.last_mut(), &next) {
            next = level.dirs.get(level.next).map(|name| level.path.join(name));
            level.next += 1;
            if next.is_none() {
                levels.pop();
            }
        }
    }
    Ok(totals)
}

/// What a walk needs in every directory.
struct Walk<'a> {
    known: &'a Known,
    out: &'a mut dyn Write,
    totals: &'a mut Totals,
}

impl Walk<'_> {
    /// Writes the lines of a directory and of what it holds but directories, whose names it returns.
    fn write_dir(&mut self, path: &Path, dir: &Dir, room: usize) -> anyhow::Result<Names> {
        self.totals.entries += 1;
        let line = Line {
            entry: dir.own_entry()?,
            content: Digest::of(b""),
            xattrs: digest_xattrs(dir)?,
            path,
        };
        line.write(self.out)?;
        let names = Names::read_sorted(dir, room)?.with_context(|| {
            format!(
                "its names take more than the {} MiB that are accepted",
                NAMES_BYTES_MAX >> 20
            )
        })?;
        let mut is_dir = Vec::with_capacity(names.len());
        for name in names.iter() {
            let path = path.join(name);
            let entry = dir.entry(name)?.with_context(|| {
                let path = printable(path.as_os_str().as_bytes());
                format!("'{path}' vanished while it was read")
            })?;
            is_dir.push(entry.kind == Kind::Directory);
            if entry.kind == Kind::Directory {
                continue;
            }
            self.totals.entries += 1;
            self.totals.bytes += if entry.kind == Kind::File {
                entry.size
            } else {
                0
            };
            let (_, inode) = entry.inode;
            let (content, xattrs) = match self.known.files.get(&inode) {
                Some(content) if entry.kind == Kind::File => (*content, Digest::of(b"")),
                Some(_) | None => read_content(dir, name, entry).with_context(|| {
                    format!("reading '{}'", printable(path.as_os_str().as_bytes()))
                })?,
            };
            let line = Line {
                entry,
                content,
                xattrs,
                path: &path,
            };
            line.write(self.out)?;
        }
        let mut is_dir = is_dir.into_iter();
        Ok(names.retain(|_| is_dir.next() == Some(true)))
    }
}

fn read_content(dir: &Dir, name: &OsStr, entry: Entry) -> anyhow::Result<(Digest, Digest)> {
    let none = Digest::of(b"");
    Ok(match entry.kind {
        Kind::File => {
            let mut file = dir.open_file(name)?;
            let mut hash = Hashing::new(io::sink());
            let mut buffer = [0; 32 << 10];
            loop {
                match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => hash.write_all(buffer.get(..n).unwrap_or_default())?,
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    Err(err) => return Err(err.into()),
                }
            }
            (hash.finish().0, digest_xattrs(&file)?)
        }
        Kind::Link => (Digest::of(dir.read_link(name)?.as_bytes()), none),
        Kind::CharDevice | Kind::BlockDevice => {
            let (major, minor) = entry.device;
            (Digest::of(format!("{major}:{minor}").as_bytes()), none)
        }
        Kind::Fifo | Kind::Other | Kind::Directory => (none, none),
    })
}

/// A digest of the attributes that a layer can set; the host adds others, such as labels.
fn digest_xattrs<F: std::os::fd::AsFd>(fd: F) -> anyhow::Result<Digest> {
    let mut attributes = Vec::new();
    for name in dir::xattr_names(&fd)? {
        let bytes = name.as_bytes();
        let ours = bytes == super::names::OPAQUE_XATTR.as_bytes();
        if !ours && bytes != b"security.capability" && !bytes.starts_with(b"user.") {
            continue;
        }
        if let Some(value) = dir::xattr(&fd, &name)? {
            attributes.push((name, value));
        }
    }
    let attributes: Vec<(&OsStr, &[u8])> = attributes
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_slice()))
        .collect();
    Ok(digest_of_xattrs(&attributes))
}

/// The digest of attributes that are sorted by their names.
pub(super) fn digest_of_xattrs(attributes: &[(&OsStr, &[u8])]) -> Digest {
    let mut bytes = Vec::new();
    for (name, value) in attributes {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(format!("\0{}\0", value.len()).as_bytes());
        bytes.extend_from_slice(value);
    }
    Digest::of(&bytes)
}

struct Line<'a> {
    entry: Entry,
    content: Digest,
    xattrs: Digest,
    path: &'a Path,
}

impl Line<'_> {
    /// `KIND MODE UID GID SIZE CONTENT XATTRS PATH`; the path begins with `/`.
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let kind = match self.entry.kind {
            Kind::File => 'f',
            Kind::Directory => 'd',
            Kind::Link => 'l',
            Kind::CharDevice => 'c',
            Kind::BlockDevice => 'b',
            Kind::Fifo => 'p',
            Kind::Other => 'o',
        };
        let size = match self.entry.kind {
            Kind::File => self.entry.size,
            // What a directory or a link takes up is the file system's affair.
            Kind::Directory
            | Kind::Link
            | Kind::CharDevice
            | Kind::BlockDevice
            | Kind::Fifo
            | Kind::Other => 0,
        };
        let Entry { mode, uid, gid, .. } = self.entry;
        let (content, xattrs) = (self.content.hex(), self.xattrs.hex());
        let mut line =
            format!("{kind} {mode:o} {uid} {gid} {size} {content} {xattrs} /").into_bytes();
        for byte in self.path.as_os_str().as_bytes() {
            match byte {
                b'%' | 0..=b' ' | 0x7f..=0xff => write!(line, "%{byte:02x}")?,
                byte => line.push(*byte),
            }
        }
        line.push(b'\n');
        out.write_all(&line)
    }
}

/// The path at the end of a line, decoded.
pub(super) fn path_of(line: &[u8]) -> OsString {
    let path = line.splitn(8, |byte| *byte == b' ').nth(7);
    let mut bytes = path.unwrap_or(line).iter();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let digits = bytes.as_slice().get(..2).map(str::from_utf8);
        match (byte, digits) {
            (b'%', Some(Ok(digits))) => {
                decoded.extend(u8::from_str_radix(digits, 16).ok());
                bytes.nth(1);
            }
            _ => decoded.push(*byte),
        }
    }
    OsString::from_vec(decoded)
}
