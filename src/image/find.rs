// SPDX-License-Identifier: Apache-2.0
//! What people call an image, where it matters whether they gave a name or an id.
//!
//! A name goes with what is saved or pushed; an id stands for the image alone, whatever names it
//! has. Looking up is the store's part.

use super::store::Store;
use super::{Digest, Reference};

impl Store {
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
