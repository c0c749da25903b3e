// SPDX-License-Identifier: Apache-2.0
//! Removing what nothing needs, all at once: at an administrator's word, or down to the budget.

use crate::engine::images::filter::Filter;
use crate::engine::images::gc::{self, Goal};
use crate::engine::images::needs::{self, Needs};
use crate::image::remove::{self, Named, Removed};
use crate::paths::Paths;
use crate::settings::Settings;
use crate::settings::images::Marks;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It is.
    Do,
    /// It is only said what would be.
    Tell,
}

/// What was removed, or would be.
#[derive(Debug)]
pub struct Pruned {
    /// The images, the one that was not used for the longest time first.
    pub images: Vec<Named>,
    /// What that frees on the disk, in bytes.
    pub freed: u64,
    /// Why less is freed than one would think.
    pub hindrance: Option<String>,
}

/// Which images a prune is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those without a name.
    Unnamed,
    /// All.
    All,
}

/// Removes the images that meet all filters and that nothing needs.
pub fn prune(paths: &Paths, which: Which, filters: &[Filter], act: Act) -> anyhow::Result<Pruned> {
    let store = needs::store(paths)?;
    let settings = Settings::load(paths)?;
    let needs = needs::needs(paths, &settings, &store)?;
    let images: Vec<Named> = remove::oldest_first(&store)?
        .into_iter()
        .filter(|image| which == Which::All || image.references.is_empty())
        .filter(|image| !needs.contains_key(&image.digest))
        .filter(|image| filters.iter().all(|filter| filter.admits(&store, image)))
        .collect();
    let (images, freed) = match act {
        Act::Tell => {
            let freed = remove::would_free(&store, &images)?;
            (images, freed)
        }
        Act::Do => {
            let Removed { images, freed } = remove::remove_all(&store, images)?;
            (images, freed)
        }
    };
    Ok(Pruned {
        images,
        freed,
        hindrance: remove::hindrance(&store),
    })
}

/// What a garbage collection did, or would do.
#[derive(Debug)]
pub struct Collected {
    /// What went.
    pub pruned: Pruned,
    /// Bytes that were stored before.
    pub stored: u64,
    /// The budget, and where a collection begins and ends.
    pub marks: Marks,
    /// Why others stay.
    pub kept: Needs,
}

/// Gets a store that is over its budget back into it, the oldest images first.
pub fn collect(paths: &Paths, act: Act) -> anyhow::Result<Collected> {
    let store = needs::store(paths)?;
    let settings = Settings::load(paths)?;
    let plan = gc::plan(paths, &settings, &store, Goal::Budget)?;
    let (marks, stored, kept) = (plan.marks, plan.stored, plan.needs.clone());
    let (images, freed) = match act {
        Act::Tell => (plan.remove, plan.frees),
        Act::Do => {
            let Removed { images, freed } = gc::carry_out(&store, plan)?;
            (images, freed)
        }
    };
    Ok(Collected {
        pruned: Pruned {
            images,
            freed,
            hindrance: remove::hindrance(&store),
        },
        stored,
        marks,
        kept,
    })
}
