// SPDX-License-Identifier: Apache-2.0
//! Writing a tree as a tar archive: for `export`, `commit`, `cp` and what else makes archives.
//!
//! The same tree gives the same bytes. What a ustar header cannot say goes to an extended header
//! before it: long names, large numbers, fractions of seconds, extended attributes. The tree may
//! be changing: a member has as many bytes as its header says, cut or filled with zeros
//! (threats F5). As a layer, what overlayfs keeps in an upper directory becomes what the OCI
//! image specification calls whiteouts (threats F7).

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, bail, ensure};

use super::linked::{Linked, Seen};
use super::member::{PAX_BYTES_MAX, printable};
use super::names::{AUFS, OPAQUE, OPAQUE_XATTR, WHITEOUT};
use super::walk::{Descend, Found, Node, Warnings, walk};
use crate::sys::dir::{self, Dir, Entry, Kind, Time};
use crate::sys::kernel_fs::KernelFileSystems;

const BLOCK_BYTES: usize = 512;

/// Most bytes of a name or of a link's target in a header.
const NAME_BYTES_MAX: usize = 100;

/// The largest numbers of fields of 8 and of 12 bytes, in octal with a NUL behind.
const NUMBER_MAX: u64 = 0o777_7777;
const LARGE_NUMBER_MAX: u64 = 0o777_7777_7777;

/// Why something of the kernel's is not copied.
pub const KERNELS: &str = "shows something of the kernel and holds no files, leaving it out";

/// Why a hard link became a file of its own.
pub const LINK_UNKNOWN: &str = "may be another name of a file, of which there are too many to know: \
                                it becomes a file of its own";

/// Most bytes of attributes of one file: what an extended header that wharf reads has room for, beside
/// names and numbers.
const XATTR_BYTES_MAX: u64 = PAX_BYTES_MAX - (16 << 10);

/// What an attribute costs there besides name and value.
const XATTR_COST: u64 = 32;

/// How much of a file is read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Entries that a layer leaves out, by path and what they are.
pub type LeaveOut<'a> = &'a mut dyn FnMut(&[u8], Entry) -> anyhow::Result<bool>;

/// What is written.
pub enum Form<'a> {
    /// The tree as it is, without a member for its top.
    Tree,
    /// Files to be copied: what the kernel only shows, such as /proc, is left out. With a name, the
    /// top is a member of that name.
    Copy(Option<&'a OsStr>),
    /// An upper directory of an overlay, as a layer of an image.
    Layer(LeaveOut<'a>),
}

impl std::fmt::Debug for Form<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tree => "Tree",
            Self::Copy(_) => "Copy",
            Self::Layer(_) => "Layer",
        })
    }
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Members.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What is missing or not as it was.
    pub warnings: Warnings,
}

/// Writes the tree below `top` to `out`, with an end mark.
pub fn pack(top: Dir, form: Form<'_>, out: &mut dyn Write) -> anyhow::Result<Packed> {
    let mut packer = Packer::new(out);
    packer.tree(top, form)?;
    packer.finish()
}

/// Writes members.
pub struct Packer<'a> {
    out: &'a mut dyn Write,
    packed: Packed,
    linked: Linked,
    kernels: KernelFileSystems,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Packer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("packed", &self.packed)
            .finish_non_exhaustive()
    }
}

impl<'a> Packer<'a> {
    /// Writes to `out`.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            packed: Packed::default(),
            linked: Linked::default(),
            kernels: KernelFileSystems::default(),
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Writes the tree below `top`.
    pub fn tree(&mut self, top: Dir, mut form: Form<'_>) -> anyhow::Result<()> {
        let mut warnings = std::mem::take(&mut self.packed.warnings);
        let result = walk(top, &mut warnings, &mut |found, warnings| {
            self.visit(found, &mut form, warnings)
        });
        self.packed.warnings = warnings;
        result
    }

    /// Writes one entry that is no directory, under `name`.
    pub fn single(&mut self, name: &OsStr, found: Found<'_>) -> anyhow::Result<()> {
        let mut warnings = std::mem::take(&mut self.packed.warnings);
        let found = Found {
            path: name.as_bytes(),
            ..found
        };
        let result = self.visit(found, &mut Form::Copy(None), &mut warnings);
        self.packed.warnings = warnings;
        result.map(drop)
    }

    /// Writes the end mark.
    pub fn finish(self) -> anyhow::Result<Packed> {
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()?;
        Ok(self.packed)
    }

    fn visit(
        &mut self,
        found: Found<'_>,
        form: &mut Form<'_>,
        warnings: &mut Warnings,
    ) -> anyhow::Result<Descend> {
        let Found { path, entry, node } = found;
        let mut name = path.to_vec();
        match form {
            Form::Tree if path.is_empty() => return Ok(Descend::Yes),
            Form::Tree => {}
            Form::Copy(top) => {
                if self.is_kernels(&node, entry)? {
                    warnings.add(path, KERNELS);
                    return Ok(Descend::No);
                }
                match top {
                    None if path.is_empty() => return Ok(Descend::Yes),
                    None => {}
                    Some(top) => {
                        name = top.as_bytes().to_vec();
                        if !path.is_empty() {
                            name.push(b'/');
                            name.extend(path);
                        }
                    }
                }
            }
            Form::Layer(leave_out) => {
                if leave_out(path, entry)? {
                    return Ok(Descend::No);
                }
                if self.layer_entry(path, entry)? {
                    return Ok(Descend::No);
                }
            }
        }
        let layer = matches!(form, Form::Layer(_));
        if entry.kind == Kind::Other {
            warnings.add(path, "is a socket, leaving it out");
            return Ok(Descend::No);
        }
        match self.linked.see(&name, entry) {
            Seen::First => {}
            Seen::Again(first) => {
                self.header((&name, b'1'), entry, (0, &first), &[])?;
                return Ok(Descend::No);
            }
            Seen::Unknown => warnings.add(path, LINK_UNKNOWN),
        }
        match node {
            Node::Dir(dir) => {
                let opaque = layer && is_opaque(dir)?;
                if name.is_empty() {
                    name.push(b'.');
                }
                name.push(b'/');
                self.header((&name, b'5'), entry, (0, &[]), &xattrs_of(dir)?)?;
                if opaque {
                    name.truncate(path.len() + usize::from(!path.is_empty()));
                    name.extend(OPAQUE);
                    self.marker(&name)?;
                }
            }
            Node::File(file) => self.file(&name, entry, file, warnings)?,
            Node::Link(target) => self.header((&name, b'2'), entry, (0, &target), &[])?,
            Node::Special(_) => {
                let flag = match entry.kind {
                    Kind::CharDevice => b'3',
                    Kind::BlockDevice => b'4',
                    Kind::Fifo | Kind::File | Kind::Directory | Kind::Link | Kind::Other => b'6',
                };
                self.header((&name, flag), entry, (0, &[]), &[])?;
            }
        }
        Ok(Descend::Yes)
    }

    fn is_kernels(&mut self, node: &Node<'_>, entry: Entry) -> anyhow::Result<bool> {
        let (device, _) = entry.inode;
        Ok(match node {
            Node::Dir(dir) => self.kernels.holds(device, dir)?,
            Node::File(file) => self.kernels.holds(device, file)?,
            Node::Link(_) | Node::Special(_) => false,
        })
    }

    /// Writes an entry that means something to overlayfs or to a layer; says whether it was one.
    fn layer_entry(&mut self, path: &[u8], entry: Entry) -> anyhow::Result<bool> {
        let start = path
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        let (parents, name) = path.split_at(start);
        ensure!(
            !name.starts_with(WHITEOUT),
            "'{}' cannot be in an image: names that begin with '.wh.' mark removed files there; \
             rename it",
            printable(path)
        );
        if !entry.is_whiteout() {
            return Ok(false);
        }
        ensure!(
            name.len() + WHITEOUT.len() <= 255,
            "'{}' was removed, and its name is too long for an image to say so",
            printable(path)
        );
        self.marker(&[parents, WHITEOUT, name].concat())?;
        Ok(true)
    }

    /// An empty file whose name is all it says.
    fn marker(&mut self, name: &[u8]) -> anyhow::Result<()> {
        let entry = Entry {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            device: (0, 0),
            inode: (0, 0),
            links: 1,
            time: Time::default(),
        };
        self.header((name, b'0'), entry, (0, &[]), &[])
    }

    fn file(
        &mut self,
        name: &[u8],
        entry: Entry,
        mut file: std::fs::File,
        warnings: &mut Warnings,
    ) -> anyhow::Result<()> {
        let xattrs = xattrs_of(&file)?;
        self.header((name, b'0'), entry, (entry.size, &[]), &xattrs)?;
        let copied = self.content(&mut file, entry.size)?;
        if copied < entry.size {
            let missing = entry.size - copied;
            let fact =
                format!("became {missing} bytes shorter while it was read, filled with zeros");
            warnings.add(name, &fact);
            io::copy(&mut io::repeat(0).take(missing), self.out)?;
        } else if let Ok(now) = file.metadata()
            && now.len() > entry.size
        {
            warnings.add(name, "grew while it was read, leaving out what came later");
        }
        self.packed.bytes += entry.size;
        self.pad(entry.size)
    }

    /// Copies at most `size` bytes.
    fn content(&mut self, file: &mut std::fs::File, size: u64) -> anyhow::Result<u64> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let n = match file.read(self.buffer.get_mut(..most).unwrap_or_default()) {
                Ok(0) => break,
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err).context("reading its content"),
            };
            self.out
                .write_all(self.buffer.get(..n).unwrap_or_default())?;
            left = left.saturating_sub(n as u64);
        }
        Ok(size - left)
    }

    fn pad(&mut self, size: u64) -> anyhow::Result<()> {
        let rest = usize::try_from(size % BLOCK_BYTES as u64)?;
        if rest > 0 {
            let zeros = [0; BLOCK_BYTES];
            self.out.write_all(zeros.get(rest..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Writes a header, after an extended one if it takes that. `content` is the member's size and
    /// what it links to.
    fn header(
        &mut self,
        (name, flag): (&[u8], u8),
        entry: Entry,
        (size, link): (u64, &[u8]),
        xattrs: &[Xattr],
    ) -> anyhow::Result<()> {
        let mut extended = Vec::new();
        let time = entry.time;
        let seconds = u64::try_from(time.seconds).ok();
        let seconds = seconds.filter(|seconds| *seconds <= LARGE_NUMBER_MAX);
        if name.len() > NAME_BYTES_MAX {
            record(&mut extended, b"path", name);
        }
        if link.len() > NAME_BYTES_MAX {
            record(&mut extended, b"linkpath", link);
        }
        if size > LARGE_NUMBER_MAX {
            record(&mut extended, b"size", size.to_string().as_bytes());
        }
        for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if u64::from(id) > NUMBER_MAX {
                record(&mut extended, key, id.to_string().as_bytes());
            }
        }
        if seconds.is_none() || time.nanoseconds != 0 {
            record(&mut extended, b"mtime", pax_time(time).as_bytes());
        }
        for (key, value) in xattrs {
            record(
                &mut extended,
                &[b"SCHILY.xattr.", key.as_slice()].concat(),
                value,
            );
        }
        if !extended.is_empty() {
            let fields = Fields {
                name: b"PaxHeader",
                flag: b'x',
                mode: 0o644,
                owner: (0, 0),
                size: extended.len() as u64,
                seconds: 0,
                link: &[],
                device: (0, 0),
            };
            self.out.write_all(&fields.block())?;
            self.out.write_all(&extended)?;
            self.pad(extended.len() as u64)?;
        }
        let fields = Fields {
            name,
            flag,
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            size,
            seconds: seconds.unwrap_or(0),
            link,
            device: entry.device,
        };
        self.out.write_all(&fields.block())?;
        self.packed.entries += 1;
        Ok(())
    }
}

/// Name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// The attributes that archives carry: file capabilities, and the application's own.
///
/// # Errors
///
/// The tree relies on what overlayfs keeps elsewhere: a redirected directory, or a file whose
/// content is in a lower layer. wharf mounts without both. Or there is more than an archive can have:
/// the kernel bounds one value and the list of names, and some file systems nothing else.
pub fn xattrs_of<F: std::os::fd::AsFd>(fd: F) -> anyhow::Result<Vec<Xattr>> {
    let mut xattrs = Vec::new();
    let mut left = XATTR_BYTES_MAX;
    for name in dir::xattr_names(&fd)? {
        let bytes = name.as_bytes();
        if bytes == b"trusted.overlay.redirect" || bytes == b"trusted.overlay.metacopy" {
            bail!(
                "the attribute '{}' refers to a lower layer",
                printable(bytes)
            );
        }
        let user = bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay.");
        // An '=' would end the key in an extended header.
        if (!user && bytes != b"security.capability") || bytes.contains(&b'=') {
            continue;
        }
        if let Some(value) = dir::xattr(&fd, &name)? {
            left = (bytes.len() + value.len())
                .try_into()
                .ok()
                .and_then(|cost: u64| left.checked_sub(cost.checked_add(XATTR_COST)?))
                .context("its extended attributes take more than 1 MiB; remove some of them")?;
            xattrs.push((bytes.to_vec(), value));
        }
    }
    Ok(xattrs)
}

/// Whether overlayfs hides in this directory what lower layers have.
pub(super) fn is_opaque(dir: &Dir) -> anyhow::Result<bool> {
    Ok(dir::xattr(dir, OPAQUE_XATTR.as_ref())?.is_some_and(|value| value == b"y"))
}

/// Whether a name has a meaning of its own in layers.
pub fn is_marker(name: &[u8]) -> bool {
    name == OPAQUE || name.starts_with(AUFS) || name.starts_with(WHITEOUT)
}

/// `LENGTH KEY=VALUE\n`; the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

/// `SECONDS[.FRACTION]`; before 1970 the kernel counts nanoseconds forward, the format backward.
fn pax_time(time: Time) -> String {
    let Time {
        seconds,
        nanoseconds,
    } = time;
    let (sign, seconds, nanoseconds) = match (seconds, nanoseconds) {
        (..0, 0) => ("-", seconds.unsigned_abs(), 0),
        (..0, nanoseconds) => (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        ),
        (0.., nanoseconds) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

struct Fields<'a> {
    name: &'a [u8],
    flag: u8,
    mode: u32,
    owner: (u32, u32),
    size: u64,
    seconds: u64,
    link: &'a [u8],
    device: (u32, u32),
}

impl Fields<'_> {
    /// The header. What does not fit is said by an extended one before it.
    fn block(&self) -> [u8; BLOCK_BYTES] {
        let mut header = tar::Header::new_ustar();
        let number = |field: &mut [u8], value: u64| {
            let width = field.len() - 1;
            let most = (1_u64 << (3 * width)) - 1;
            let digits = format!("{:0width$o}", if value > most { 0 } else { value });
            for (slot, digit) in field.iter_mut().zip(digits.bytes()) {
                *slot = digit;
            }
        };
        let text = |field: &mut [u8], value: &[u8]| {
            for (slot, byte) in field.iter_mut().zip(value) {
                *slot = *byte;
            }
        };
        let old = header.as_old_mut();
        text(&mut old.name, self.name);
        text(&mut old.linkname, self.link);
        old.linkflag = [self.flag];
        number(&mut old.mode, self.mode.into());
        number(&mut old.uid, self.owner.0.into());
        number(&mut old.gid, self.owner.1.into());
        number(&mut old.size, self.size);
        number(&mut old.mtime, self.seconds);
        if let Some(ustar) = header.as_ustar_mut() {
            number(&mut ustar.dev_major, self.device.0.into());
            number(&mut ustar.dev_minor, self.device.1.into());
        }
        header.set_cksum();
        *header.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_were_written() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (5, 0, "5"),
            (1_700_000_000, 120_000_000, "1700000000.12"),
            (-1, 0, "-1"),
            (-10, 0, "-10"),
            (-2, 750_000_000, "-1.25"),
            (-1, 1, "-0.999999999"),
        ] {
            let time = Time {
                seconds,
                nanoseconds,
            };
            assert_eq!(pax_time(time), text);
            let mut body = Vec::new();
            record(&mut body, b"mtime", text.as_bytes());
            let pax = super::super::pax::parse_local(&body).unwrap();
            assert_eq!(pax.time, Some(time), "{text}");
        }
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for length in [
            1, 88, 89, 90, 91, 92, 985, 986, 987, 988, 9_984, 9_985, 9_990,
        ] {
            let mut body = Vec::new();
            record(&mut body, b"path", &vec![b'x'; length]);
            let pax = super::super::pax::parse_local(&body).unwrap();
            assert_eq!(pax.path.unwrap().len(), length);
        }
    }
}
