// SPDX-License-Identifier: Apache-2.0
//! `wharf export`: a container's root file system as a tar archive.

use std::io::Write;

use anyhow::Context as _;

use crate::engine::container::Container;
use crate::engine::files::tree::Tree;
use crate::storage::pack::{Form, Packed, pack};
use crate::sys::dir::Dir;

/// Writes the archive to `out`. Volumes are not in it; where one is mounted there is an empty
/// directory.
///
/// # Errors
///
/// Also that the container ended meanwhile and took its files with it.
pub fn export(container: Container<'_>, out: &mut dyn Write) -> anyhow::Result<Packed> {
    let tree = Tree::find(container)?;
    let mut packed = || -> anyhow::Result<Packed> {
        let mount = tree.file_system()?;
        let packed = pack(Dir::reopen(&mount)?, Form::Tree, out)?;
        tree.check_whole()?;
        Ok(packed)
    };
    packed().with_context(|| format!("exporting container '{}'", container.name()))
}
