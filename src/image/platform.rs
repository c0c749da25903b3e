// SPDX-License-Identifier: Apache-2.0
//! Which manifest of an index is ours.
//!
//! The rule, which docs/storage.md has for people: same system and architecture; of the variants
//! that the machine can run the highest; of equals the first. Only the way to that manifest is
//! read, so an index that nests without end costs nothing (threats R7, R8).

use anyhow::{anyhow, ensure};

use super::manifest::{self, Descriptor, Document, Manifest};
use crate::platform::Platform;

/// How deep indexes may nest, and how many documents are read on the way.
const INDEX_DEPTH_MAX: usize = 3;
const DOCUMENTS_MAX: usize = 100;

/// Most platforms that an error lists.
const SHOWN_MAX: usize = 20;

/// The manifest of an index that runs on `platform`: same system and architecture; the same
/// variant, then the highest lower one; the first of equals. An entry without a platform counts
/// when it is the only one.
pub fn select<'a>(
    manifests: &'a [Descriptor],
    platform: &Platform,
) -> anyhow::Result<&'a Descriptor> {
    if let [only] = manifests
        && only.platform.is_none()
    {
        return Ok(only);
    }
    manifests
        .iter()
        .filter_map(|entry| Some((platform.distance(entry.platform.as_ref()?)?, entry)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, entry)| entry)
        .ok_or_else(|| {
            let offered = manifests
                .iter()
                .filter_map(|entry| entry.platform.as_ref())
                // Attestations of buildkit.
                .filter(|offered| offered.os != "unknown");
            let mut offered: Vec<String> = offered.map(Platform::to_string).collect();
            let more = offered.len().saturating_sub(SHOWN_MAX);
            offered.truncate(SHOWN_MAX);
            let mut offered = offered.join(", ");
            if offered.is_empty() {
                "none at all".clone_into(&mut offered);
            } else if more > 0 {
                offered += &format!(" and {more} more");
            }
            anyhow!("no image for {platform}; there is {offered}")
        })
}

/// A manifest that was found, with the documents' bytes.
#[derive(Debug)]
pub struct Found {
    /// The manifest.
    pub manifest: Manifest,
    /// Its bytes, as they came.
    pub bytes: Vec<u8>,
}

/// Follows `document`, whose bytes are `bytes`, down to the manifest for `platform`; `read` gives
/// the verified bytes of what a descriptor names.
pub fn find(
    bytes: Vec<u8>,
    document: Document,
    platform: &Platform,
    read: &mut dyn FnMut(&Descriptor) -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Found> {
    let mut documents = 0;
    descend(bytes, document, platform, (read, &mut documents, 0))
}

type Way<'a> = (
    &'a mut dyn FnMut(&Descriptor) -> anyhow::Result<Vec<u8>>,
    &'a mut usize,
    usize,
);

fn descend(
    bytes: Vec<u8>,
    document: Document,
    platform: &Platform,
    (read, documents, depth): Way<'_>,
) -> anyhow::Result<Found> {
    *documents += 1;
    ensure!(
        *documents <= DOCUMENTS_MAX,
        "more than {DOCUMENTS_MAX} manifests lead to the image"
    );
    let entries = match document {
        Document::Manifest(manifest) => return Ok(Found { manifest, bytes }),
        Document::Index(entries) => entries,
    };
    ensure!(
        depth < INDEX_DEPTH_MAX,
        "indexes are nested more than {INDEX_DEPTH_MAX} deep"
    );
    let mut follow = |entry: &Descriptor| -> anyhow::Result<Found> {
        let bytes = read(entry)?;
        let document = manifest::parse_described(&bytes, entry)?;
        descend(bytes, document, platform, (read, documents, depth + 1))
    };
    let absent = match select(&entries, platform) {
        Ok(entry) => return follow(entry),
        Err(err) => err,
    };
    // Indexes may be entries without a platform; the first that leads to an image of ours counts.
    for entry in &entries {
        if entry.platform.is_none()
            && manifest::is_index(entry)
            && let Ok(found) = follow(entry)
        {
            return Ok(found);
        }
    }
    Err(absent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn entry(platform: Option<&str>, index: usize) -> Descriptor {
        Descriptor {
            media_type: manifest::MANIFEST_TYPE.to_owned(),
            digest: Digest::of(index.to_string().as_bytes()),
            size: 1,
            platform: platform.map(|text| text.parse().unwrap()),
            annotations: None,
        }
    }

    #[test]
    fn r8_the_rule() {
        for (ours, offered, expected) in [
            (
                "linux/arm/v7",
                "windows/arm unknown/unknown linux/arm/v6 linux/arm linux/arm/v7",
                Some(4),
            ),
            (
                "linux/arm/v7",
                "windows/arm unknown/unknown linux/arm/v6 linux/arm",
                Some(3),
            ),
            (
                "linux/arm/v7",
                "linux/arm/v5 linux/arm/v6 linux/arm/v8",
                Some(1),
            ),
            ("linux/arm/v6", "linux/arm/v7 linux/arm/v5", Some(1)),
            ("linux/arm/v5", "linux/arm/v7 linux/arm/v6", None),
            ("linux/arm64/v8", "linux/arm linux/arm64", Some(1)),
            ("linux/arm64", "linux/arm64/v8 linux/arm64/v9", Some(0)),
            (
                "linux/amd64",
                "linux/amd64/v3 linux/amd64 linux/amd64",
                Some(1),
            ),
            ("linux/amd64", "linux/amd64/v3 linux/amd64/v2", None),
            (
                "linux/amd64/v3",
                "linux/amd64 linux/amd64/v2 linux/amd64/v4",
                Some(1),
            ),
            ("linux/riscv64", "linux/riscv64/x linux/riscv64", Some(1)),
            ("linux/amd64", "", None),
        ] {
            let index: Vec<Descriptor> = offered
                .split_whitespace()
                .enumerate()
                .map(|(index, text)| entry(Some(text), index))
                .collect();
            let found = select(&index, &ours.parse().unwrap()).ok();
            assert_eq!(
                found,
                expected.map(|at: usize| &index[at]),
                "{ours}: {offered}"
            );
        }
        let bare = [entry(None, 0)];
        assert_eq!(select(&bare, &Platform::local()).unwrap(), &bare[0]);
        let others = ["windows/arm", "unknown/unknown", "linux/arm/v6"];
        let index: Vec<Descriptor> = others.iter().map(|text| entry(Some(text), 0)).collect();
        let err = select(&index, &"linux/s390x".parse().unwrap()).unwrap_err();
        assert_eq!(
            err.to_string(),
            "no image for linux/s390x; there is windows/arm, linux/arm/v6"
        );
    }

    #[test]
    fn platforms_are_words() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/arm/v7/x",
            "linux//v7",
            "Linux/amd64",
            "linux/a b",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
