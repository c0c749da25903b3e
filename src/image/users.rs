// SPDX-License-Identifier: Apache-2.0
//! What is in use, so that it is neither removed nor replaced.
//!
//! Who uses images is known elsewhere; the store asks, and always while it holds the lock of the
//! references. A start holds that lock, shared, from before it writes down that it uses an image
//! until it has seen that the image is there still. So whoever removes or replaces comes before
//! that, and the start fails, or after it, and sees the container.

use std::ops::Deref;

use anyhow::{Context as _, ensure};

use super::record::file_name;
use super::store::Store;
use super::{Digest, Image, InUse, Users};

impl Store {
    /// Writes down with `note` that the image is in use, and sees that it is there still, the very
    /// trees that were looked up. From then on it is neither removed nor replaced.
    ///
    /// # Errors
    ///
    /// It was removed or repaired since it was looked up: what was mounted may be incomplete.
    pub fn claim(
        &self,
        image: &Image,
        note: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let _names = self.share_names()?;
        note()?;
        ensure!(self.leads_to_image(image)?, image.changed());
        image.require_unchanged()
    }

    /// Whether a reference leads to the image. Costs one small file unless names have changed.
    fn leads_to_image(&self, image: &Image) -> anyhow::Result<bool> {
        let digest = &image.digest;
        for file in [
            file_name(image.reference.as_ref(), Some(digest)),
            file_name(None, Some(digest)),
        ] {
            if let Ok(Some(record)) = self.load_record(&file)
                && record.digest == *digest
            {
                return Ok(true);
            }
        }
        let records = self.records()?;
        Ok(records.iter().any(|record| record.digest == *digest))
    }

    /// The store for whoever changes it; `users` tells what is in use.
    pub fn writable(self, users: Users) -> Writable {
        Writable { store: self, users }
    }
}

/// The store for whoever adds, removes or replaces: one that knows what is in use. Nothing can be
/// written through a [`Store`] alone.
#[derive(Debug)]
pub struct Writable {
    store: Store,
    users: Users,
}

impl Deref for Writable {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Writable {
    /// What is in use. The caller holds [`Store::lock_names`].
    pub(super) fn in_use(&self) -> anyhow::Result<InUse> {
        (self.users)(&self.paths).context("asking which images are in use")
    }

    /// Fails if something that runs or is mounted needs the layer. The caller holds
    /// [`Store::lock_names`] unless he asks only to spare himself work.
    pub(super) fn require_unused(&self, diff_id: &Digest) -> anyhow::Result<()> {
        for (image, reasons) in self.in_use()? {
            // A manifest that cannot be read hides which layers are needed: any of them may be.
            let needs = self.documents(&image).map_or(true, |documents| {
                documents.config.diff_ids.contains(diff_id)
            });
            ensure!(
                !needs,
                "it is damaged, and its image is in use ({}), so it is left alone; stop the \
                 container or unmount the image, then run 'wharf image check --repair'",
                reasons.join(", ")
            );
        }
        Ok(())
    }
}
