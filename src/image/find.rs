// SPDX-License-Identifier: Apache-2.0
//! What people call an image, where it matters whether they gave a name or an id.
//!
//! A name goes with what is saved or pushed; an id stands for the image alone, whatever names it
//! has. And what a short name can mean besides: looking up one name is the store's part.

use super::damage::sift;
use super::store::Store;
use super::{Digest, Reference};
use crate::registry::Client;

impl Store {
    /// What `text` can mean of what is in the store, in the order in which a start takes it: the
    /// name as it is, then the names that `client` says a short one has on registries. Each with
    /// the manifest that it leads to.
    pub fn meanings(&self, client: &Client, text: &str) -> anyhow::Result<Vec<(String, Digest)>> {
        // A configuration that cannot be read finds nothing on registries either.
        let candidates = client.candidates(text).unwrap_or_default();
        let candidates = candidates.iter().map(Reference::to_string);
        let mut meanings = Vec::new();
        for name in std::iter::once(text.to_owned()).chain(candidates) {
            if let Some((_, digest)) = sift(self.find(&name))? {
                meanings.push((name, digest));
            }
        }
        Ok(meanings)
    }

    /// As [`Store::find`], but a name only when it was `text` that named it: an id means an image
    /// and none of its names.
    pub fn find_named(&self, text: &str) -> anyhow::Result<(Option<Reference>, Digest)> {
        let (found, digest) = self.find(text)?;
        let written = text.parse::<Reference>().ok();
        let local = written.as_ref().and_then(Reference::on_localhost);
        let is_named = found.is_some() && (found == written || found == local);
        Ok((found.filter(|_| is_named), digest))
    }
}
