// SPDX-License-Identifier: Apache-2.0
//! Images as directories to look at: mounted, listed, unmounted.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::engine::refusal::Misuse;
use crate::image::mounts;
use crate::image::store::{Record, Store};
use crate::paths::Paths;
use crate::reference::Reference;

/// An image that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Its names.
    pub references: Vec<Reference>,
    /// The manifest's digest.
    pub digest: Digest,
    /// Where.
    pub path: PathBuf,
}

/// Mounts images; one that is mounted stays where it is.
pub fn mount(paths: &Paths, images: &[String]) -> anyhow::Result<Vec<Mounted>> {
    let store = Store::open(paths)?;
    let mut digests = Vec::new();
    for text in images {
        let image = store.resolve(text)?;
        // Whoever removed the image before it was mounted did not see the mount.
        if let Err(err) = store.claim(&image, || mounts::mount(paths, &image).map(drop)) {
            mounts::unmount(paths, &image.digest)?;
            return Err(err);
        }
        digests.push(image.digest);
    }
    describe(paths, &store, digests)
}

/// All images that are mounted.
pub fn mounted(paths: &Paths) -> anyhow::Result<Vec<Mounted>> {
    describe(paths, &Store::open(paths)?, mounts::mounted(paths)?)
}

fn describe(paths: &Paths, store: &Store, digests: Vec<Digest>) -> anyhow::Result<Vec<Mounted>> {
    let records: Vec<Record> = store.records()?;
    let describe = |digest: Digest| {
        let names = records.iter().filter(|record| record.digest == digest);
        Mounted {
            references: names.filter_map(|r| r.reference.clone()).collect(),
            digest,
            path: mounts::target(paths, &digest),
        }
    };
    Ok(digests.into_iter().map(describe).collect())
}

/// What an unmount did.
#[derive(Debug, Default)]
pub struct Unmounted {
    /// The images that were mounted and are not any more.
    pub images: Vec<Digest>,
    /// The first error; it kept none of the others from being unmounted.
    pub error: Option<anyhow::Error>,
}

/// Unmounts images, or all that are mounted; one that is not mounted is left alone.
pub fn unmount(paths: &Paths, images: Option<&[String]>) -> anyhow::Result<Unmounted> {
    let mounted = mounts::mounted(paths)?;
    let digests = match images {
        None => mounted,
        Some(images) => {
            let store = Store::open(paths)?;
            let find = |text: &String| find(&store, &mounted, text);
            images.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    let mut unmounted = Unmounted::default();
    for digest in digests {
        match mounts::unmount(paths, &digest) {
            Ok(true) => unmounted.images.push(digest),
            Ok(false) => {}
            Err(err) => unmounted.error = unmounted.error.or(Some(err)),
        }
    }
    Ok(unmounted)
}

/// What the store calls so, or else what is mounted and has an id that begins so: the image may be
/// damaged by now.
fn find(store: &Store, mounted: &[Digest], text: &str) -> anyhow::Result<Digest> {
    let err = match store.find(text) {
        Ok((_, digest)) => return Ok(digest),
        Err(err) => err,
    };
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let mut found = mounted
        .iter()
        .filter(|digest| hex.len() >= 12 && digest.hex().starts_with(hex));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(*only),
        (Some(_), Some(_)) => Err(Misuse::new(format!("'{hex}' begins several ids")).into()),
        (None, _) => Err(err),
    }
}
