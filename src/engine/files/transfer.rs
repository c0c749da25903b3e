// SPDX-License-Identifier: Apache-2.0
//! Both ends of `wharf cp`: a container's files, the host's, or a stream.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::Mode;

use crate::engine::container::Container;
use crate::engine::files::copy::{self, Links, Side};
use crate::engine::files::tree::Tree;
use crate::name::ContainerName;
use crate::paths::Paths;
use crate::storage::place::Keep;
use crate::storage::walk::Warnings;
use crate::sys::root::{self, Root};

/// One end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A path of a container; a relative one is below `/`.
    Container(ContainerName, OsString),
    /// A path of the host.
    Host(OsString),
}

/// What is kept besides content, permissions and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owners {
    /// All of it.
    Archive,
    /// Nothing: files belong to root in a container, to the caller on the host.
    Caller,
}

/// Copies from one end to the other.
pub fn copy(
    paths: &Paths,
    from: &End,
    to: &End,
    links: Links,
    owners: Owners,
) -> anyhow::Result<Warnings> {
    let keep = match (owners, to) {
        (Owners::Archive, _) => Keep::All,
        (Owners::Caller, End::Container(..)) => Keep::Content { uid: 0, gid: 0 },
        (Owners::Caller, End::Host(_)) => Keep::Content {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        },
    };
    let ends = Ends::open(paths, &[from, to])?;
    let warnings = ends.with(from, |from| {
        ends.with(to, |to| copy::copy(from, to, links, keep))
    })?;
    ends.check_whole()?;
    Ok(warnings)
}

/// Writes what is at one end to `out` as a tar archive.
pub fn send(
    paths: &Paths,
    from: &End,
    links: Links,
    out: &mut dyn Write,
) -> anyhow::Result<Warnings> {
    let ends = Ends::open(paths, &[from])?;
    let warnings = ends.with(from, |from| copy::pack(from, links, out))?;
    ends.check_whole()?;
    Ok(warnings)
}

/// Unpacks a tar archive into a directory at one end.
pub fn receive(paths: &Paths, archive: impl Read, to: &End) -> anyhow::Result<Warnings> {
    let ends = Ends::open(paths, &[to])?;
    let warnings = ends.with(to, |to| copy::unpack(archive, to))?;
    ends.check_whole()?;
    Ok(warnings)
}

/// The trees of both ends.
struct Ends {
    host: Root,
    containers: BTreeMap<ContainerName, (Tree, Root)>,
}

impl Ends {
    fn open(paths: &Paths, ends: &[&End]) -> anyhow::Result<Self> {
        // What is made is closed to others until it has its own mode.
        rustix::process::umask(Mode::from_raw_mode(0o022));
        let mut containers = BTreeMap::new();
        let mut names: Vec<&ContainerName> = ends
            .iter()
            .filter_map(|end| match end {
                End::Container(name, _) => Some(name),
                End::Host(_) => None,
            })
            .collect();
        // One that rests is locked: in the same order by everybody, and once.
        names.sort_unstable();
        names.dedup();
        for name in names {
            let tree = Tree::find(Container::new(paths, name))?;
            let root = Root::from_fd(tree.root()?, Path::new("/"), root::Links::InRoot);
            containers.insert(name.clone(), (tree, root));
        }
        Ok(Self {
            host: Root::open(Path::new("/"))?,
            containers,
        })
    }

    fn with<T>(
        &self,
        end: &End,
        act: impl FnOnce(&Side<'_>) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        match end {
            End::Host(path) => act(&Side {
                root: &self.host,
                path: &absolute(path)?,
                whose: "the host",
            }),
            End::Container(name, path) => {
                let (_, root) = self.containers.get(name).context("it was opened")?;
                let whose = format!("container '{name}'");
                let side = Side {
                    root,
                    path,
                    whose: &whose,
                };
                act(&side)
            }
        }
    }

    fn check_whole(&self) -> anyhow::Result<()> {
        self.containers
            .values()
            .try_for_each(|(tree, _)| tree.check_whole())
    }
}

/// The path with the working directory in front, its end unchanged: `/` and `/.` mean something.
fn absolute(path: &OsStr) -> anyhow::Result<OsString> {
    if Path::new(path).is_absolute() {
        return Ok(path.to_owned());
    }
    let mut absolute = std::env::current_dir()
        .context("finding the working directory")?
        .into_os_string();
    absolute.push("/");
    absolute.push(path);
    Ok(absolute)
}
