// SPDX-License-Identifier: Apache-2.0
//! Where an image can be loaded from: a directory, an archive file, or a stream.
//!
//! All three give named members. A directory is read without following any link; a plain archive
//! file is read in place; what cannot seek (a pipe, a compressed archive) is spooled. Names are
//! only ever looked up, never turned into paths of the host (threats R17).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::storage::decode::{self, Compression};
use crate::storage::member::{Member, MemberKind, Members, printable};
use crate::sys::dir::Dir;
use crate::sys::root::{Links, Root};

/// Most members of an archive, and the longest name that is kept: an image of 500 layers has some
/// 1500 members.
const MEMBERS_MAX: usize = 20_000;
const NAME_BYTES_MAX: usize = 512;

/// Free space that spooling leaves, as unpacking does.
const FREE_BYTES_MIN: u64 = 128 << 20;
const SPACE_CHECK_BYTES: u64 = 1 << 20;

/// An open source of images.
#[derive(Debug)]
pub struct Archive {
    content: Content,
}

#[derive(Debug)]
enum Content {
    Directory(Root),
    /// One file that holds the members.
    File(File, HashMap<String, Stored>),
    /// A directory of ours that holds the members as files.
    Spool(Dir, HashMap<String, Stored>),
}

#[derive(Debug, Clone)]
enum Stored {
    /// Content in the archive's file, or in the spooled file `spooled`.
    Content {
        offset: u64,
        size: u64,
        spooled: usize,
    },
    /// Another member's name, as old versions of docker save repeated layers.
    Link(String),
}

/// The content of a member.
pub struct Opened {
    /// Gives the bytes.
    pub reader: Box<dyn Read>,
    /// How many there are.
    pub size: u64,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// Opens the directory or the file `path`; `spool` is an empty directory for what has to be
    /// spooled.
    pub fn open(path: &Path, spool: &Path) -> anyhow::Result<Self> {
        let shown = || format!("opening '{}'", path.display());
        let metadata = std::fs::metadata(path).with_context(shown)?;
        if metadata.is_dir() {
            let root = Root::open_with(path, Links::Refused)?;
            return Ok(Self {
                content: Content::Directory(root),
            });
        }
        let mut file = File::open(path).with_context(shown)?;
        if !metadata.is_file() {
            return Self::from_stream(file, spool);
        }
        let decoder = decode::decode(&file).with_context(shown)?;
        let compression = decoder.compression();
        drop(decoder);
        file.seek(SeekFrom::Start(0)).with_context(shown)?;
        match compression {
            Compression::Plain => Self::from_file(file),
            Compression::Gzip | Compression::Zstd => Self::from_stream(file, spool),
        }
        .with_context(|| format!("reading archive '{}'", path.display()))
    }

    /// Reads an archive, compressed or not, from a stream to its end.
    pub fn from_stream(reader: impl Read, spool: &Path) -> anyhow::Result<Self> {
        let dir = Dir::open(spool)?;
        let mut members = Members::new(decode::decode(reader)?);
        let mut index = HashMap::new();
        let mut serial = 0;
        while let Some(member) = members.read_next()? {
            let Some(name) = name_of(&member)? else {
                continue;
            };
            let stored = match member.kind {
                MemberKind::File => {
                    serial += 1;
                    spool_member(&dir, serial, &mut members)
                        .with_context(|| format!("reading entry '{}'", printable(&member.path)))?;
                    Stored::Content {
                        offset: 0,
                        size: member.size,
                        spooled: serial,
                    }
                }
                _ => stored_link(&name, &member),
            };
            insert(&mut index, name, stored)?;
        }
        members.drain()?;
        Ok(Self {
            content: Content::Spool(dir, index),
        })
    }

    fn from_file(file: File) -> anyhow::Result<Self> {
        let mut index = HashMap::new();
        let mut members = Members::new(io::BufReader::new(&file));
        while let Some(member) = members.seek_next()? {
            let Some(name) = name_of(&member)? else {
                continue;
            };
            let stored = match member.kind {
                MemberKind::File => Stored::Content {
                    offset: member.offset,
                    size: member.size,
                    spooled: 0,
                },
                _ => stored_link(&name, &member),
            };
            insert(&mut index, name, stored)?;
        }
        Ok(Self {
            content: Content::File(file, index),
        })
    }

    /// Whether there is a member of this name.
    pub fn contains(&self, name: &str) -> bool {
        match &self.content {
            Content::Directory(root) => root.stat(Path::new(name)).is_ok(),
            Content::File(_, index) | Content::Spool(_, index) => index.contains_key(name),
        }
    }

    /// The content of the member `name`.
    pub fn member(&self, name: &str) -> anyhow::Result<Opened> {
        let shown = || format!("reading '{}' of the archive", printable(name.as_bytes()));
        let name = normalise(name.as_bytes()).with_context(shown)?;
        let opened = match &self.content {
            Content::Directory(root) => open_in_directory(root, &name),
            Content::File(file, index) => lookup(index, &name).and_then(|(offset, size, _)| {
                let file = file.try_clone()?;
                let reader = Window {
                    file,
                    offset,
                    left: size,
                };
                Ok(Opened {
                    reader: Box::new(reader),
                    size,
                })
            }),
            Content::Spool(dir, index) => lookup(index, &name).and_then(|(_, size, spooled)| {
                let file = dir.open_file(spool_name(spooled).as_ref())?;
                Ok(Opened {
                    reader: Box::new(file),
                    size,
                })
            }),
        };
        opened.with_context(shown)
    }

    /// The whole content of a member of at most `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
        let Opened { mut reader, size } = self.member(name)?;
        let shown = || format!("reading '{}' of the archive", printable(name.as_bytes()));
        if size > limit {
            return Err(anyhow!("{size} bytes; at most {limit} are accepted")).with_context(shown);
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).with_context(shown)?;
        Ok(bytes)
    }
}

fn open_in_directory(root: &Root, name: &str) -> anyhow::Result<Opened> {
    let file = root.open_file(Path::new(name))?;
    let size = file.metadata()?.len();
    Ok(Opened {
        reader: Box::new(file.take(size)),
        size,
    })
}

fn lookup(index: &HashMap<String, Stored>, name: &str) -> anyhow::Result<(u64, u64, usize)> {
    let absent = || anyhow!("there is no such member");
    let mut stored = index.get(name).ok_or_else(absent)?;
    // One hop, as writers of such archives made them.
    if let Stored::Link(target) = stored {
        stored = index.get(target).ok_or_else(absent)?;
    }
    match stored {
        Stored::Content {
            offset,
            size,
            spooled,
        } => Ok((*offset, *size, *spooled)),
        Stored::Link(_) => bail!("a link to a link"),
    }
}

fn insert(index: &mut HashMap<String, Stored>, name: String, stored: Stored) -> anyhow::Result<()> {
    index.insert(name, stored);
    ensure!(
        index.len() <= MEMBERS_MAX,
        "more than {MEMBERS_MAX} members; this is no archive of an image"
    );
    Ok(())
}

/// The name by which a member is found; none for what images have no use for.
fn name_of(member: &Member) -> anyhow::Result<Option<String>> {
    let useful = match member.kind {
        MemberKind::File | MemberKind::Link | MemberKind::HardLink => true,
        MemberKind::Directory
        | MemberKind::CharDevice
        | MemberKind::BlockDevice
        | MemberKind::Fifo => false,
    };
    if !useful || member.path.len() > NAME_BYTES_MAX {
        return Ok(None);
    }
    normalise(&member.path)
        .map(Some)
        .with_context(|| format!("reading entry '{}'", printable(&member.path)))
}

fn stored_link(name: &str, member: &Member) -> Stored {
    let mut target: Vec<&str> = match member.kind {
        // A hard link names its target from the archive's root.
        MemberKind::HardLink => Vec::new(),
        _ => name.split('/').collect(),
    };
    target.pop();
    let link = String::from_utf8_lossy(&member.link);
    for component in link.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                target.pop();
            }
            other => target.push(other),
        }
    }
    Stored::Link(target.join("/"))
}

fn normalise(name: &[u8]) -> anyhow::Result<String> {
    let name = str::from_utf8(name).map_err(|_| anyhow!("the name is not UTF-8"))?;
    let components: Vec<&str> = name
        .split('/')
        .filter(|component| !matches!(*component, "" | "."))
        .collect();
    ensure!(
        !components.contains(&"..") && !name.contains('\0'),
        "the name leads out of the archive"
    );
    ensure!(!components.is_empty(), "the name is empty");
    Ok(components.join("/"))
}

fn spool_name(serial: usize) -> String {
    format!("member-{serial}")
}

fn spool_member(dir: &Dir, serial: usize, content: &mut impl Read) -> anyhow::Result<()> {
    let mut file = dir.make_file(spool_name(serial).as_ref())?;
    loop {
        let space = dir.space()?;
        ensure!(
            space.bytes >= FREE_BYTES_MIN.min(space.bytes_total / 20),
            "only {} MiB are free; make room, for example with 'wharf image rm'",
            space.bytes >> 20
        );
        if io::copy(&mut content.take(SPACE_CHECK_BYTES), &mut file)? == 0 {
            return Ok(file.flush()?);
        }
    }
}

/// A part of a file, read without moving the file's own position.
struct Window {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        let n = self.file.read_at(buffer, self.offset)?;
        if n == 0 && most > 0 {
            let text = "unexpected end of the archive";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
