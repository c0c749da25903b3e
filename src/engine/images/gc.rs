// SPDX-License-Identifier: Apache-2.0
//! Garbage collection of images: nothing that is needed ([`needs`]) goes, and of the rest the image
//! that was not used for the longest time goes first.
//!
//! A collection begins when the store is over its high-water mark and ends at the low one; room
//! for a pull is made in the same way. Removing needs no room itself (threats S1).

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;

use crate::engine::images::needs::{self, Needs};
use crate::image::pull;
use crate::image::remove::{self, Named, Removed};
use crate::image::size::{Sizes, Stored};
use crate::image::users::Writable;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::settings::images::Marks;
use crate::storage::extract;
use crate::sys::dir::{Dir, Space};

/// What a collection is to achieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A store over its high-water mark gets down to the low one.
    Budget,
    /// So many bytes more are free on the file system, as far as there is something to remove.
    Free(u64),
}

/// What a collection would do.
#[derive(Debug)]
pub struct Plan {
    /// Where the marks are.
    pub marks: Marks,
    /// What is stored, in bytes.
    pub stored: u64,
    /// The images to remove, in this order.
    pub remove: Vec<Named>,
    /// What removing them frees, in bytes.
    pub frees: u64,
    /// Why others stay.
    pub needs: Needs,
}

/// Room on the file system that holds the store.
fn space(store: &Writable) -> anyhow::Result<Space> {
    let dir = Dir::open(store.layers_dir()).context("looking for room on the disk")?;
    Ok(dir.space()?)
}

/// Free bytes, or as small a part of them as inodes are free.
fn free_part(space: &Space) -> u64 {
    let part = u128::from(space.bytes_total) * u128::from(space.inodes);
    match part.checked_div(u128::from(space.inodes_total)) {
        Some(part) => space.bytes.min(u64::try_from(part).unwrap_or(u64::MAX)),
        // The file system does not count them.
        None => space.bytes,
    }
}

/// Chooses what goes.
pub fn plan(
    paths: &Paths,
    settings: &Settings,
    store: &Writable,
    goal: Goal,
) -> anyhow::Result<Plan> {
    let stored = Stored::load(store)?.total();
    let marks = match space(store) {
        Ok(space) => {
            let free = free_part(&space);
            settings.images.marks(stored, free, space.bytes_total)
        }
        // Nothing was ever stored.
        Err(_) if stored == 0 => settings.images.marks(0, 0, 0),
        Err(err) => return Err(err),
    };
    let needs = needs::needs(paths, settings, store)?;
    let wanted = match goal {
        Goal::Budget if stored > marks.high => stored - marks.low,
        Goal::Budget => 0,
        Goal::Free(bytes) => bytes,
    };
    let min_age = settings.images.min_age();
    let (remove, frees) = choose(store, &needs, wanted, min_age)?;
    Ok(Plan {
        marks,
        stored,
        remove,
        frees,
        needs,
    })
}

/// The oldest images that nothing needs, as many as it takes to free `wanted` bytes.
fn choose(
    store: &Writable,
    needs: &Needs,
    wanted: u64,
    min_age: Duration,
) -> anyhow::Result<(Vec<Named>, u64)> {
    let sizes = Sizes::load(store)?;
    let now = SystemTime::now();
    let (mut chosen, mut digests, mut frees) = (Vec::new(), BTreeSet::new(), 0);
    for image in remove::oldest_first(store)? {
        if frees >= wanted {
            break;
        }
        // A clock that was set back makes images of the future; they are young.
        let age = now.duration_since(image.used).unwrap_or_default();
        if age < min_age || needs.contains_key(&image.digest) {
            continue;
        }
        digests.insert(image.digest);
        chosen.push(image);
        frees = sizes.freed_by(&digests);
    }
    Ok((chosen, frees))
}

/// Does what was planned. What is in use by then stays.
pub fn carry_out(store: &Writable, plan: Plan) -> anyhow::Result<Removed> {
    remove::remove_all(store, plan.remove)
}

/// Makes room for a pull of so many compressed bytes, and says what went. Best effort: the pull
/// itself looks whether there is enough, and says so.
pub fn make_room_for_pull(
    paths: &Paths,
    settings: &Settings,
    store: &Writable,
    compressed: u64,
) -> Option<String> {
    match make_room(paths, settings, store, pull::room_for(compressed)) {
        Ok(removed) if removed.images.is_empty() => None,
        Ok(removed) => Some(format!(
            "{} images that nothing needs were removed to make room, {} MiB",
            removed.images.len(),
            removed.freed >> 20
        )),
        Err(err) => Some(format!("{err:#}, ignoring")),
    }
}

/// Makes room before a pull or a load that needs `bytes` more than are free, if they are not.
///
/// Success does not mean that there is enough: whoever writes sees whether it is.
pub fn make_room(
    paths: &Paths,
    settings: &Settings,
    store: &Writable,
    bytes: u64,
) -> anyhow::Result<Removed> {
    let free = space(store).map_or(u64::MAX, |space| {
        // What unpacking leaves free.
        match space.inodes_total == 0 || space.inodes > extract::inode_floor(&space) {
            true => space.bytes.saturating_sub(extract::floor(&space)),
            false => 0,
        }
    });
    if free >= bytes {
        return Ok(Removed::default());
    }
    let plan = plan(paths, settings, store, Goal::Free(bytes - free))?;
    if plan.remove.is_empty() {
        return Ok(Removed::default());
    }
    carry_out(store, plan).context("making room for an image")
}
