// SPDX-License-Identifier: Apache-2.0
//! The table of hostile layers (threats T1 to T27), each row by generators, variants, permutations.
//!
//! A case says what must become of it, whatever brings it into the store: refused with words that
//! name the entry, or unpacked to facts about the tree. Who drives the table wraps each case into
//! an image ([`Case::files`]) and compares the canary.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use wharf::sys::dir::{Dir, xattr};

use crate::support::layout::{self, Files, GZIP, Layer, ZSTD};
use crate::support::tar::{Header, Tar, gzip, zstd};

mod formats;
mod framing;
mod trees;

/// What must become of a layer.
pub enum Outcome {
    /// The error holds this text, and nothing of the image is left.
    Refused(String),
    /// The tree is so.
    Loads(Vec<Fact>),
}

/// Something that must be so in the layer's tree.
pub enum Fact {
    File(String, Vec<u8>),
    Dir(String),
    Link(String, String),
    /// A device or a FIFO.
    Node(String, u64),
    Mode(String, u32),
    Whiteout(String),
    Opaque(String),
    Absent(String),
    /// An attribute that must not have arrived.
    NoXattr(String, String),
    /// All names in a directory.
    Names(String, Vec<Vec<u8>>),
}

/// One image with a hostile layer, which is its last.
pub struct Case {
    pub row: &'static str,
    pub name: String,
    pub layers: Vec<Layer>,
    /// Damage to the manifest before it gets its digest.
    pub change: Option<fn(&mut serde_json::Value)>,
    pub outcome: Outcome,
}

/// Where a name or the target of a link is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    Header,
    Pax,
    Gnu,
}

pub const NAMINGS: [Naming; 3] = [Naming::Header, Naming::Pax, Naming::Gnu];

/// All cases; `canary` is a directory of the host that links try to reach.
pub fn cases(canary: &Path) -> Vec<Case> {
    let mut cases = Cases::default();
    trees::add(&mut cases, canary.to_str().unwrap());
    formats::add(&mut cases);
    framing::add(&mut cases);
    cases.list
}

#[derive(Default)]
struct Cases {
    list: Vec<Case>,
}

impl Cases {
    /// Adds an image whose last layer is `tar`. How it is compressed, and whether another layer is
    /// below it, goes round.
    fn add(&mut self, row: &'static str, name: impl Into<String>, tar: &[u8], outcome: Outcome) {
        let hostile = match self.list.len() % 3 {
            0 => Layer::plain(tar),
            1 => Layer::new(gzip(tar), GZIP, tar),
            _ => Layer::new(zstd(tar), ZSTD, tar),
        };
        let layers = match self.list.len() % 4 {
            0 => vec![layout::layers().remove(0), hostile],
            _ => vec![hostile],
        };
        self.add_image(row, name, layers, outcome);
    }

    fn add_image(
        &mut self,
        row: &'static str,
        name: impl Into<String>,
        layers: Vec<Layer>,
        outcome: Outcome,
    ) {
        self.list.push(Case {
            row,
            name: name.into(),
            layers,
            change: None,
            outcome,
        });
    }
}

impl Case {
    /// The files of an OCI layout with the image under the name `x`.
    pub fn files(&self) -> Files {
        layout::layout_with("x", &self.layers, |manifest| {
            if let Some(change) = self.change {
                change(manifest);
            }
        })
    }

    /// Judges what came of it: the tree of the last layer, or the error's text.
    pub fn judge(&self, result: &Result<PathBuf, String>) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{} {}: {what}", self.row, self.name));
        match (&self.outcome, result) {
            (Outcome::Refused(text), Err(err)) => {
                if !err.contains(text.as_str()) {
                    return wrong(format!("'{text}' is not in: {err}"));
                }
                // Nothing of an archive reaches a terminal as it is (threats T27).
                let raw = |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}');
                match err.chars().any(raw) {
                    true => wrong(format!("raw characters in {err:?}")),
                    false => Ok(()),
                }
            }
            (Outcome::Loads(facts), Ok(fs)) => match facts.iter().find(|fact| !fact.holds(fs)) {
                Some(fact) => wrong(format!("{} does not hold", fact.describe())),
                None => Ok(()),
            },
            (Outcome::Refused(text), Ok(_)) => wrong(format!("loaded, but expected '{text}'")),
            (Outcome::Loads(_), Err(err)) => wrong(format!("refused: {err}")),
        }
    }
}

impl Fact {
    fn holds(&self, fs: &Path) -> bool {
        let lstat = |path: &str| std::fs::symlink_metadata(fs.join(path));
        match self {
            Self::File(path, body) => {
                lstat(path).is_ok_and(|m| m.is_file())
                    && std::fs::read(fs.join(path)).is_ok_and(|found| found == *body)
            }
            Self::Dir(path) => lstat(path).is_ok_and(|m| m.is_dir()),
            Self::Link(path, target) => {
                std::fs::read_link(fs.join(path)).is_ok_and(|found| found == Path::new(target))
            }
            Self::Node(path, rdev) => lstat(path).is_ok_and(|m| {
                let kind = m.file_type();
                let node = kind.is_char_device() || kind.is_block_device() || kind.is_fifo();
                node && m.rdev() == *rdev
            }),
            Self::Mode(path, mode) => lstat(path).is_ok_and(|m| m.mode() & 0o7777 == *mode),
            Self::Whiteout(path) => {
                lstat(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
            }
            Self::Opaque(path) => attribute(&fs.join(path), "trusted.overlay.opaque"),
            Self::Absent(path) => lstat(path).is_err(),
            Self::NoXattr(path, name) => !attribute(&fs.join(path), name),
            Self::Names(path, names) => {
                let mut found = wharf::sys::fs::list_dir(&fs.join(path)).unwrap_or_default();
                found.sort();
                let found: Vec<&[u8]> = found.iter().map(|name| name.as_bytes()).collect();
                found == *names
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::File(path, body) => format!("file {path:?} = '{}'", body.escape_ascii()),
            Self::Dir(path) => format!("directory {path:?}"),
            Self::Link(path, target) => format!("link {path:?} -> {target:?}"),
            Self::Node(path, rdev) => format!("node {path:?} {rdev:#x}"),
            Self::Mode(path, mode) => format!("mode of {path:?} = {mode:o}"),
            Self::Whiteout(path) => format!("whiteout {path:?}"),
            Self::Opaque(path) => format!("opaque {path:?}"),
            Self::Absent(path) => format!("no {path:?}"),
            Self::NoXattr(path, name) => format!("no attribute {name} of {path:?}"),
            Self::Names(path, names) => format!("names in {path:?} = {names:?}"),
        }
    }
}

fn attribute(path: &Path, name: &str) -> bool {
    let name = OsStr::new(name);
    let found = if path.is_dir() {
        xattr(Dir::open(path).unwrap(), name)
    } else {
        xattr(std::fs::File::open(path).unwrap(), name)
    };
    // A name that no file system takes is not there either.
    found.is_ok_and(|value| value.is_some())
}

/// Appends `header` and `body`; its names are written where `naming` says.
fn named(tar: Tar, naming: Naming, header: &Header, body: &[u8]) -> Tar {
    let mut short = header.clone();
    short.size = body.len() as u64;
    if naming == Naming::Header {
        return tar.entry(&short, body);
    }
    short.name = b"short".to_vec();
    let link = std::mem::take(&mut short.link);
    let tar = match naming {
        Naming::Header => tar,
        Naming::Pax if link.is_empty() => tar.pax(&[("path", &header.name)]),
        Naming::Pax => tar.pax(&[("path", &header.name), ("linkpath", &link)]),
        Naming::Gnu => {
            let tar = match link.is_empty() {
                true => tar,
                false => tar.extension(b'K', &[&link[..], b"\0"].concat()),
            };
            tar.extension(b'L', &[&header.name[..], b"\0"].concat())
        }
    };
    tar.entry(&short, body)
}

fn refused(text: impl Into<String>) -> Outcome {
    Outcome::Refused(text.into())
}

fn header(name: impl AsRef<[u8]>, kind: u8, link: &str) -> Header {
    let mut header = Header::new(name, kind);
    header.link = link.as_bytes().to_vec();
    if matches!(kind, b'3' | b'4') {
        header.device = (1, 3);
    }
    header
}

/// Every order of `items`.
fn permutations<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.len() < 2 {
        return vec![items.to_vec()];
    }
    let mut all = Vec::new();
    for index in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(index);
        for mut order in permutations(&rest) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}
