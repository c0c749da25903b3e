// SPDX-License-Identifier: Apache-2.0
//! Pushing an image to a registry, with the digest it has.

use crate::digest::Digest;
use crate::engine::images::needs;
use crate::engine::refusal::Misuse;
use crate::image::push;
use crate::paths::Paths;
use crate::reference::Reference;
use crate::registry::{self, Client};
use crate::settings::Settings;

/// An image that is on a registry now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Where.
    pub reference: Reference,
    /// The manifest's digest.
    pub digest: Digest,
    /// Its layers and its config.
    pub blobs: Vec<Sent>,
}

/// A blob that is on a registry now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// How it got there.
    pub way: Way,
}

/// How a blob got to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It was there.
    Present,
    /// The registry has taken it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl From<push::Sent> for Sent {
    fn from(sent: push::Sent) -> Self {
        let push::Sent {
            digest,
            size,
            pushed,
        } = sent;
        Self {
            digest,
            bytes: size,
            way: match pushed {
                registry::Pushed::Present => Way::Present,
                registry::Pushed::Mounted => Way::Mounted,
                registry::Pushed::Uploaded => Way::Uploaded,
            },
        }
    }
}

/// What happens during a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There are so many blobs, of so many bytes.
    Total {
        /// Blobs, each counted once.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A blob is there.
    Sent(Sent),
}

/// Pushes `image` to `target`; without one, to where its name says.
///
/// # Errors
///
/// [`Misuse`] when there is no such name, or when it has another digest than the image.
pub fn push(
    paths: &Paths,
    image: &str,
    target: Option<&Reference>,
    report: &mut (dyn FnMut(Event) + Send),
) -> anyhow::Result<Pushed> {
    let store = needs::store(paths)?;
    let (reference, digest) = store.find_named(image)?;
    let target = match (target, reference) {
        (Some(target), _) => target.clone(),
        (None, Some(reference)) => reference.without_digest().unwrap_or(reference),
        (None, None) => {
            return Err(Misuse::new("an id says nothing of a registry; give DEST too").into());
        }
    };
    if target.digest().is_some_and(|wanted| *wanted != digest) {
        let text = format!("'{target}' has another digest than the image, which is {digest}");
        return Err(Misuse::new(text).into());
    }
    let client = Client::new(paths, &Settings::load(paths)?)?;
    let sent = push::push(&store, &client, &digest, &target, &mut |event| {
        report(match event {
            push::Event::Total { blobs, bytes } => Event::Total { blobs, bytes },
            push::Event::Sent(sent) => Event::Sent(sent.into()),
        });
    })?;
    Ok(Pushed {
        reference: target,
        digest,
        blobs: sent.into_iter().map(Sent::from).collect(),
    })
}
