// SPDX-License-Identifier: Apache-2.0
//! Names of images: given and taken away. Content that nothing refers to any more goes with them.

use crate::digest::Digest;
use crate::engine::images::needs;
use crate::engine::refusal::Misuse;
use crate::image::remove;
use crate::image::size::Stored;
use crate::paths::Paths;
use crate::reference::Reference;

/// Gives an image another name, and returns the manifest's digest.
///
/// # Errors
///
/// [`Misuse`] when the name has a digest.
pub fn tag(paths: &Paths, image: &str, name: &Reference) -> anyhow::Result<Digest> {
    if name.digest().is_some() {
        return Err(Misuse::new("a new name has no digest; leave out '@sha256:…'").into());
    }
    let store = needs::store(paths)?;
    let writer = store.write()?;
    let (_, digest) = store.find(image)?;
    writer.set_reference(name, &digest)?;
    Ok(digest)
}

/// Whether an image that is to be removed has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It has to.
    Fails,
    /// One that is not there is as it was asked to be.
    Passes,
}

/// What a removal did.
#[derive(Debug, Default)]
pub struct Untagged {
    /// Names, or digests of images without one.
    pub names: Vec<String>,
    /// What that freed on the disk, in bytes.
    pub freed: u64,
    /// Why less was freed than one would think.
    pub hindrance: Option<String>,
    /// The first error; it kept none of the others from being removed.
    pub error: Option<anyhow::Error>,
}

/// Removes the names that are given, and all names of the images whose ids are.
pub fn remove(paths: &Paths, images: &[String], absent: Absent) -> anyhow::Result<Untagged> {
    let store = needs::store(paths)?;
    let before = Stored::load(&store)?;
    let writer = store.write()?;
    let mut removed = Untagged::default();
    for image in images {
        if absent == Absent::Passes && remove::is_absent(&store, image) {
            continue;
        }
        match remove::remove(&writer, image) {
            Ok(names) => removed.names.extend(names),
            Err(err) => removed.error = removed.error.or(Some(err)),
        }
    }
    if let Err(err) = writer.collect() {
        removed.error = Some(err);
    }
    removed.hindrance = remove::hindrance(&store);
    removed.freed = before.freed(&Stored::load(&store)?);
    Ok(removed)
}
