// SPDX-License-Identifier: Apache-2.0
//! Removing images, damaged ones too, and telling what that freed.
//!
//! Nothing here needs room: references are unlinked and content is renamed away and unlinked, so
//! all of it works on a full disk (threats S1). A reference whose file cannot be read goes
//! by its name (threats K8).

use std::time::SystemTime;

use super::record::file_name;
use super::size::{Sizes, Stored};
use super::store::{Record, Store};
use super::used::last_used;
use super::users::Writable;
use super::writer::Writer;
use super::{Digest, Reference};

/// An image with all its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its names; none for an image whose name was given to another one.
    pub references: Vec<Reference>,
    /// When it was last started, loaded, pulled or named.
    pub used: SystemTime,
}

/// All images, the one that was not used for the longest time first.
pub fn oldest_first(store: &Store) -> anyhow::Result<Vec<Named>> {
    let mut images: Vec<Named> = Vec::new();
    for record in store.records()? {
        // Who cannot tell is taken for old.
        let used = last_used(store, &record).unwrap_or(SystemTime::UNIX_EPOCH);
        match images
            .iter_mut()
            .find(|image| image.digest == record.digest)
        {
            Some(image) => {
                image.references.extend(record.reference);
                image.used = image.used.max(used);
            }
            None => images.push(Named {
                digest: record.digest,
                references: record.reference.into_iter().collect(),
                used,
            }),
        }
    }
    images.sort_by_key(|image| image.used);
    Ok(images)
}

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// The images that are gone.
    pub images: Vec<Named>,
    /// What that freed on the disk, in bytes.
    pub freed: u64,
}

/// Removes images with all their names and what nothing needs any more; what killed writers left
/// goes too. Those in use by now stay.
pub fn remove_all(store: &Writable, images: Vec<Named>) -> anyhow::Result<Removed> {
    let before = Stored::load(store)?;
    let writer = store.write()?;
    let mut removed = Removed::default();
    for image in images {
        // Else it was started, named or removed since it was chosen.
        let as_chosen = || Ok(oldest_first(store)?.contains(&image));
        if writer.remove_unless(&image.digest, as_chosen)? {
            removed.images.push(image);
        }
    }
    writer.collect()?;
    removed.freed = before.freed(&Stored::load(store)?);
    Ok(removed)
}

/// What removing these would free.
pub fn would_free(store: &Store, images: &[Named]) -> anyhow::Result<u64> {
    let digests = images.iter().map(|image| image.digest).collect();
    Ok(Sizes::load(store)?.freed_by(&digests))
}

/// Removes what `text` names, as [`Writer::remove`] does; a reference whose file is damaged goes
/// by its name. Returns the names that are gone.
pub fn remove(writer: &Writer<'_>, text: &str) -> anyhow::Result<Vec<String>> {
    let store = writer.store();
    if let Some(name) = damaged(store, text)? {
        writer.remove_damaged(&name)?;
        return Ok(vec![shown(&name)]);
    }
    let removed = writer.remove(text)?;
    Ok(removed.iter().map(name_of).collect())
}

fn name_of(record: &Record) -> String {
    let name = record.reference.as_ref().map(Reference::familiar);
    name.unwrap_or_else(|| record.digest.to_string())
}

/// The file of the reference that `text` means if it is there and cannot be read; `text` may be
/// what [`unreadable`] calls it.
fn damaged(store: &Store, text: &str) -> anyhow::Result<Option<String>> {
    let mut names = Vec::new();
    if let Ok(reference) = text.parse::<Reference>() {
        let candidates = std::iter::once(reference.clone()).chain(reference.on_localhost());
        names.extend(candidates.map(|candidate| file_name(Some(&candidate), None)));
    }
    for name in names {
        match problem_of(store, &name) {
            None if store.references_dir().join(&name).exists() => return Ok(None),
            None => {}
            Some(_) => return Ok(Some(name)),
        }
    }
    let listed = unreadable(store)?.into_iter();
    let mut meant = listed.filter(|damaged| {
        let unnamed = damaged.shown.strip_prefix('@');
        damaged.shown == text || unnamed == Some(text)
    });
    Ok(meant.next().map(|damaged| damaged.file))
}

/// Why the file of a reference cannot be used; none for a sound one or one that is not there.
fn problem_of(store: &Store, name: &str) -> Option<String> {
    match store.load_record(name) {
        Ok(Some(record)) => {
            let expected = file_name(record.reference.as_ref(), Some(&record.digest));
            (expected != name).then(|| format!("its content belongs to '{expected}'"))
        }
        Ok(None) => None,
        Err(err) => Some(format!("{err:#}")),
    }
}

fn shown(name: &str) -> String {
    name.replace("%2f", "/").replace("%25", "%")
}

/// A reference whose file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    file: String,
    /// Its name, as far as the file's name tells.
    pub shown: String,
    /// Why.
    pub problem: String,
}

/// References whose files cannot be read.
pub fn unreadable(store: &Store) -> anyhow::Result<Vec<Unreadable>> {
    let names = store.record_names()?.into_iter();
    let unreadable = names.filter_map(|file| {
        Some(Unreadable {
            problem: problem_of(store, &file)?,
            shown: shown(&file),
            file,
        })
    });
    Ok(unreadable.collect())
}

/// Why nothing is swept now: damage that hides what is needed.
pub fn hindrance(store: &Store) -> Option<String> {
    let err = store.used().err()?;
    Some(format!(
        "content that nothing needs stays, because damage hides what is needed: {err:#}; see 'wharf \
         image check'"
    ))
}

/// Whether `text` is a name or an id of nothing that is there, damaged or not.
pub fn is_absent(store: &Store, text: &str) -> bool {
    let is_id = text.parse::<Digest>().is_ok();
    (is_id || text.parse::<Reference>().is_ok())
        && damaged(store, text).is_ok_and(|found| found.is_none())
        && store.find(text).is_err()
}
