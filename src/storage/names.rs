// SPDX-License-Identifier: Apache-2.0
//! Names in layers: what a name may be, the names that mark whiteouts, and the attributes that are kept.

use anyhow::{bail, ensure};

use super::member::MemberKind;

/// Most components of a name, and most bytes: what open(2) takes, with room for our own prefix.
const DEPTH_MAX: usize = 512;
pub(super) const PATH_BYTES_MAX: usize = 4000;

pub(super) const WHITEOUT: &[u8] = b".wh.";
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
pub(super) const AUFS: &[u8] = b".wh..wh.";

/// The attribute by which overlayfs hides what lower layers have in a directory.
pub(super) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// The components of a name, taken relative to the layer's root.
pub(super) fn components(path: &[u8]) -> anyhow::Result<Vec<&[u8]>> {
    ensure!(
        path.len() <= PATH_BYTES_MAX,
        "the name is longer than {PATH_BYTES_MAX} bytes"
    );
    ensure!(!path.is_empty(), "the name is empty");
    let mut components = Vec::new();
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => bail!("the name leads out of the layer with '..'"),
            _ => components.push(component),
        }
        ensure!(
            component.len() <= 255,
            "a component of the name is longer than 255 bytes"
        );
    }
    ensure!(
        components.len() <= DEPTH_MAX,
        "the name has more than {DEPTH_MAX} components"
    );
    Ok(components)
}

/// What becomes of an extended attribute of an archive.
pub(super) enum XattrRule {
    Drop,
    Must,
    May,
}

/// File capabilities must survive or the program does not work; `user.` is the application's own.
/// Everything else belongs to the host's security modules or to overlayfs (threats T9, T13).
pub(super) fn xattr_rule(name: &[u8], kind: MemberKind) -> XattrRule {
    const NAME_BYTES_MAX: usize = 255;
    if name == b"security.capability" && kind == MemberKind::File {
        return XattrRule::Must;
    }
    let user = name.starts_with(b"user.") && name.len() > b"user.".len();
    let overlay = name.starts_with(b"user.overlay.");
    if user && !overlay && name.len() <= NAME_BYTES_MAX && !name.contains(&0) {
        XattrRule::May
    } else {
        XattrRule::Drop
    }
}
