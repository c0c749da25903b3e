// SPDX-License-Identifier: Apache-2.0
//! `wharf cp`: files into containers and out of them.
//!
//! Each side is a root directory held by a descriptor: the container's, in which no link leads
//! out, or the host's. The source is walked and the destination filled name by name, so it does not
//! matter what a container swaps meanwhile; nothing of it is executed (threats F1 to F4).

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::storage::decode;
use crate::storage::linked::{Linked, Seen};
use crate::storage::member::{Member, MemberKind, Members, printable};
use crate::storage::pack::{Form, KERNELS, LINK_UNKNOWN, Packer, xattrs_of};
use crate::storage::place::{Content, Keep, Placer};
use crate::storage::walk::{Descend, Found, Node, Warnings, walk};
use crate::sys;
use crate::sys::dir::{Dir, Entry, Kind, Time};
use crate::sys::held::Held;
use crate::sys::kernel_fs::KernelFileSystems;
use crate::sys::root::Root;

/// As many links in a row as the kernel follows.
const LINKS_MAX: u32 = 40;

/// One side: a tree, and a path in it as it was written.
#[derive(Debug)]
pub struct Side<'a> {
    /// The tree.
    pub root: &'a Root,
    /// The path. A `/` at its end says that it is a directory, `/.` what is in it.
    pub path: &'a OsStr,
    /// Whose it is, for messages.
    pub whose: &'a str,
}

/// What becomes of a source that is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It is copied.
    Keep,
    /// What it leads to is copied.
    Follow,
}

/// A path that was looked up as far as it goes.
struct Spot {
    parent: Dir,
    /// None for the root.
    name: Option<OsString>,
    /// What is there.
    held: Option<Held>,
}

/// A source that was found.
struct Source {
    held: Held,
    /// What it is called at the destination; none if only what is in it is copied.
    name: Option<OsString>,
}

/// Copies a file or a tree.
pub fn copy(from: &Side<'_>, to: &Side<'_>, links: Links, keep: Keep) -> anyhow::Result<Warnings> {
    let source = find_source(from, links)?;
    refuse_special(&source, from, keep)?;
    let (top, name) = find_destination(to, &source)?;
    refuse_kernels(&top, to)?;
    let own = top.own_entry()?.inode;
    let mut placer = Placer::new(top, keep);
    let copied = place_all(&mut placer, &source, name.as_deref(), own);
    let copied = copied.and_then(|()| placer.finish());
    copied.with_context(|| {
        format!(
            "copying '{}' of {} to '{}' of {}",
            shown(from.path),
            from.whose,
            shown(to.path),
            to.whose
        )
    })
}

/// Writes a file or a tree to `out` as a tar archive.
pub fn pack(from: &Side<'_>, links: Links, out: &mut dyn Write) -> anyhow::Result<Warnings> {
    let source = find_source(from, links)?;
    let mut packer = Packer::new(out);
    let packing = || format!("copying '{}' of {}", shown(from.path), from.whose);
    if source.held.entry().kind == Kind::Directory {
        let form = Form::Copy(source.name.as_deref());
        packer
            .tree(source.held.open_dir()?, form)
            .with_context(packing)?;
    } else {
        let name = source.name.clone().unwrap_or_default();
        let found = found_of(&source.held)?;
        packer.single(&name, found).with_context(packing)?;
    }
    Ok(packer.finish()?.warnings)
}

/// Puts the members of a tar archive, compressed or not, into a directory. Owners, setuid bits and
/// devices are those of the archive.
pub fn unpack(archive: impl Read, to: &Side<'_>) -> anyhow::Result<Warnings> {
    let spot = look_up(to, Links::Follow)?;
    let held = spot.held.with_context(|| absent(to))?;
    ensure!(
        held.entry().kind == Kind::Directory,
        "'{}' of {} is no directory, and an archive is unpacked into one",
        shown(to.path),
        to.whose
    );
    let top = held.open_dir()?;
    refuse_kernels(&top, to)?;
    let unpacked = || -> anyhow::Result<Warnings> {
        let mut members = Members::new(decode::decode(archive)?);
        let mut placer = Placer::new(top, Keep::All);
        while let Some(member) = members.read_next()? {
            placer.place(&member, Content::Stream(&mut members))?;
        }
        members.drain()?;
        placer.finish()
    };
    unpacked().with_context(|| format!("unpacking to '{}' of {}", shown(to.path), to.whose))
}

fn place_all(
    placer: &mut Placer,
    source: &Source,
    name: Option<&OsStr>,
    destination: (u64, u64),
) -> anyhow::Result<()> {
    let mut seen = SoFar::default();
    let mut place = |found: Found<'_>, warnings: &mut Warnings| {
        let mut path = name.unwrap_or_default().as_bytes().to_vec();
        if !path.is_empty() && !found.path.is_empty() {
            path.push(b'/');
        }
        path.extend(found.path);
        place_one(placer, &mut seen, path, found, warnings)
    };
    let mut warnings = Warnings::default();
    if source.held.entry().kind == Kind::Directory {
        walk(
            source.held.open_dir()?,
            &mut warnings,
            &mut |found, warnings| {
                ensure!(
                    found.entry.inode != destination || found.path.is_empty() && name.is_none(),
                    "a directory cannot be copied into itself"
                );
                place(found, warnings)
            },
        )?;
    } else {
        place(found_of(&source.held)?, &mut warnings)?;
    }
    placer.warnings.append(warnings);
    Ok(())
}

/// What a walk has come across.
#[derive(Default)]
struct SoFar {
    linked: Linked,
    kernels: KernelFileSystems,
}

/// Places what was found, under the name `path`.
fn place_one(
    placer: &mut Placer,
    seen: &mut SoFar,
    path: Vec<u8>,
    found: Found<'_>,
    warnings: &mut Warnings,
) -> anyhow::Result<Descend> {
    let Found { entry, node, .. } = found;
    let (device, _) = entry.inode;
    let is_kernels = match &node {
        Node::Dir(dir) => seen.kernels.holds(device, dir)?,
        Node::File(file) => seen.kernels.holds(device, file)?,
        Node::Link(_) | Node::Special(_) => false,
    };
    if is_kernels {
        warnings.add(&path, KERNELS);
        return Ok(Descend::No);
    }
    if path.is_empty() {
        // Only what is in it was asked for.
        return Ok(Descend::Yes);
    }
    if entry.kind == Kind::Other {
        warnings.add(&path, "is a socket, leaving it out");
        return Ok(Descend::Yes);
    }
    let mut member = member_of(&path, entry);
    let is_kept = placer.keeps_special()
        || !matches!(
            entry.kind,
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo
        );
    // Without its first name, a second one would lead to whatever has that name at the destination.
    if is_kept {
        match seen.linked.see(&path, entry) {
            Seen::First => {}
            Seen::Again(first) => {
                member.kind = MemberKind::HardLink;
                member.link = first;
                placer.place(&member, Content::None)?;
                return Ok(Descend::Yes);
            }
            Seen::Unknown => warnings.add(&path, LINK_UNKNOWN),
        }
    }
    match node {
        Node::Dir(dir) => {
            member.xattrs = xattrs_of(dir)?;
            placer.place(&member, Content::None)?;
        }
        Node::File(file) => {
            member.xattrs = xattrs_of(&file)?;
            placer.place(&member, Content::File(&file))?;
        }
        Node::Link(target) => {
            member.link = target;
            placer.place(&member, Content::None)?;
        }
        Node::Special(_) => placer.place(&member, Content::None)?,
    }
    Ok(Descend::Yes)
}

fn member_of(path: &[u8], entry: Entry) -> Member {
    Member {
        kind: match entry.kind {
            Kind::File => MemberKind::File,
            Kind::Directory => MemberKind::Directory,
            Kind::Link => MemberKind::Link,
            Kind::CharDevice => MemberKind::CharDevice,
            Kind::BlockDevice => MemberKind::BlockDevice,
            Kind::Fifo | Kind::Other => MemberKind::Fifo,
        },
        path: path.to_vec(),
        link: Vec::new(),
        size: match entry.kind {
            Kind::File => entry.size,
            Kind::Directory
            | Kind::Link
            | Kind::CharDevice
            | Kind::BlockDevice
            | Kind::Fifo
            | Kind::Other => 0,
        },
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        time: Time { ..entry.time },
        device: entry.device,
        xattrs: Vec::new(),
        offset: 0,
    }
}

/// A source that is no directory, as a walk would show it.
fn found_of(held: &Held) -> anyhow::Result<Found<'_>> {
    let node = match held.entry().kind {
        Kind::File => Node::File(held.read()?),
        Kind::Link => Node::Link(held.read_link()?.into_encoded_bytes()),
        Kind::Directory | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Other => {
            Node::Special(held)
        }
    };
    Ok(Found {
        path: &[],
        entry: held.look_again()?,
        node,
    })
}

fn find_source(from: &Side<'_>, links: Links) -> anyhow::Result<Source> {
    let shape = Shape::of(from.path);
    let links = match shape {
        Shape::Any => links,
        Shape::Directory | Shape::Content => Links::Follow,
    };
    let spot = look_up(from, links)?;
    let held = spot.held.with_context(|| absent(from))?;
    let is_dir = held.entry().kind == Kind::Directory;
    ensure!(
        is_dir || shape == Shape::Any,
        "'{}' of {} is no directory",
        shown(from.path),
        from.whose
    );
    let name = match shape {
        // As it was called, not what a link led to.
        Shape::Any | Shape::Directory => last_name(from.path).or(spot.name),
        Shape::Content => None,
    };
    ensure!(is_dir || name.is_some(), "the source has no name");
    let (device, _) = held.entry().inode;
    ensure!(
        !KernelFileSystems::default().holds(device, &held)?,
        "'{}' of {} shows something of the kernel and holds no files: read it with a program",
        shown(from.path),
        from.whose
    );
    Ok(Source { held, name })
}

/// The directory that is filled, and the name in it; none if the source's content goes into it.
fn find_destination(to: &Side<'_>, source: &Source) -> anyhow::Result<(Dir, Option<OsString>)> {
    let spot = look_up(to, Links::Follow)?;
    let source_is_dir = source.held.entry().kind == Kind::Directory;
    let kind = spot.held.as_ref().map(|held| held.entry().kind);
    match (kind, spot.held, spot.name) {
        (Some(Kind::Directory), Some(held), _) => Ok((held.open_dir()?, source.name.clone())),
        (Some(_), _, _) if source_is_dir => bail!(
            "'{}' of {} is there and is no directory",
            shown(to.path),
            to.whose
        ),
        (Some(_), _, _) if Shape::of(to.path) != Shape::Any => {
            bail!("'{}' of {} is no directory", shown(to.path), to.whose)
        }
        (None, _, _) if !source_is_dir && Shape::of(to.path) != Shape::Any => bail!(
            "the directory '{}' of {} does not exist",
            shown(to.path),
            to.whose
        ),
        (_, _, name) => {
            let name = name.context("the destination has no name")?;
            Ok((spot.parent, Some(name)))
        }
    }
}

/// Looks a path up. Its last name may be absent; a link there is followed if asked for, also one
/// that leads to nothing, whose target is then what is absent.
fn look_up(side: &Side<'_>, links: Links) -> anyhow::Result<Spot> {
    let looking = || format!("looking for '{}' of {}", shown(side.path), side.whose);
    let mut path = PathBuf::from(side.path);
    for _ in 0..LINKS_MAX {
        let Some(name) = last_name(path.as_os_str()) else {
            ensure!(
                !path.ends_with(".."),
                "'{}' ends with '..': name the directory",
                shown(side.path)
            );
            let root = side.root.open_dir(Path::new("/")).with_context(looking)?;
            return Ok(Spot {
                parent: Dir::reopen(&root)?,
                name: None,
                held: Some(Held::from_fd(root)?),
            });
        };
        // Components leave out '.' and slashes at the end.
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = side
            .root
            .open_readable_dir(&parent_path)
            .with_context(looking)?;
        let parent = Dir::from(parent);
        let held = parent.hold(&name).with_context(looking)?;
        let is_link = held
            .as_ref()
            .is_some_and(|held| held.entry().kind == Kind::Link);
        if let (true, Links::Follow, Some(held)) = (is_link, links, &held) {
            path = parent_path.join(held.read_link()?);
            if path.as_os_str().as_bytes().ends_with(b"..") {
                path = PathBuf::from(path.as_os_str()).join(".");
                return at_directory(side, &path).with_context(looking);
            }
            continue;
        }
        return Ok(Spot {
            parent,
            name: Some(name),
            held,
        });
    }
    bail!(
        "'{}' of {} leads through too many links",
        shown(side.path),
        side.whose
    )
}

/// A link whose target ends with `..`: a directory, whatever it is called.
fn at_directory(side: &Side<'_>, path: &Path) -> anyhow::Result<Spot> {
    let dir = side.root.open_dir(path)?;
    Ok(Spot {
        parent: Dir::reopen(&dir)?,
        name: None,
        held: Some(Held::from_fd(dir)?),
    })
}

fn last_name(path: &OsStr) -> Option<OsString> {
    Path::new(path).file_name().map(OsStr::to_owned)
}

/// What is left out of a tree is an error when it is all that was asked for.
fn refuse_special(source: &Source, from: &Side<'_>, keep: Keep) -> anyhow::Result<()> {
    let what = match (source.held.entry().kind, keep) {
        (Kind::Other, _) => "a socket, which cannot be copied",
        (Kind::CharDevice | Kind::BlockDevice | Kind::Fifo, Keep::Content { .. }) => {
            "a device or a FIFO; '--archive' copies it as what it is"
        }
        _ => return Ok(()),
    };
    bail!("'{}' of {} is {what}", shown(from.path), from.whose)
}

fn refuse_kernels(top: &Dir, to: &Side<'_>) -> anyhow::Result<()> {
    let (device, _) = top.own_entry()?.inode;
    ensure!(
        !KernelFileSystems::default().holds(device, top)?,
        "'{}' of {} shows something of the kernel: no files can be put there",
        shown(to.path),
        to.whose
    );
    Ok(())
}

/// What the end of a path says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Any,
    /// `x/`
    Directory,
    /// `x/.`, `.` or `/`
    Content,
}

impl Shape {
    fn of(path: &OsStr) -> Self {
        match path.as_bytes() {
            b"." | b"" => Self::Content,
            bytes if bytes.ends_with(b"/.") => Self::Content,
            bytes if bytes.iter().all(|byte| *byte == b'/') => Self::Content,
            bytes if bytes.ends_with(b"/") => Self::Directory,
            _ => Self::Any,
        }
    }
}

fn absent(side: &Side<'_>) -> String {
    format!("'{}' of {} does not exist", shown(side.path), side.whose)
}

fn shown(path: &OsStr) -> String {
    printable(path.as_bytes())
}

/// Whether an error says that something is mounted read-only.
pub fn is_read_only(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        cause
            .downcast_ref::<sys::Error>()
            .is_some_and(|err| err.kind() == std::io::ErrorKind::ReadOnlyFilesystem)
    })
}
