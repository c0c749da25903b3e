// SPDX-License-Identifier: Apache-2.0
//! Files of references: their names.
//!
//! Whatever a reference holds, its file's name is one component, is not too long, and is no other
//! reference's.

use crate::digest::Digest;
use crate::reference::Reference;

/// The name of a reference's file: the reference with '/' and '%' escaped, or a digest of it when
/// that is too long; `@sha256:…` for an image without a name.
pub(super) fn file_name(reference: Option<&Reference>, digest: Option<&Digest>) -> String {
    // Room for what a temporary name adds.
    const NAME_BYTES_MAX: usize = 230;
    match (reference, digest) {
        (Some(reference), _) => {
            let text = reference.to_string();
            let name = text.replace('%', "%25").replace('/', "%2f");
            if name.len() <= NAME_BYTES_MAX {
                name
            } else {
                format!("+{}", Digest::of(text.as_bytes()).hex())
            }
        }
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => "@".to_owned(),
    }
}
