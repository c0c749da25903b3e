// SPDX-License-Identifier: Apache-2.0
//! Joining fragments: the base file first, then drop-ins in order.
//!
//! A later fragment replaces a key; maps (environment, labels, unit directives, …) are joined
//! entry by entry. Every value keeps the place it was written at. What was replaced is kept too:
//! it is checked like the rest, so that a mistake does not hide behind a drop-in.

use std::collections::BTreeMap;
use std::collections::btree_map;

use crate::definition::fragment::Entry;

/// Which key, or which entry of it: table, name, entry.
type Slot<'a> = (&'static str, &'static str, Option<&'a str>);

/// The keys of a container and where each was set.
#[derive(Debug, Default)]
pub(crate) struct Merged<'a> {
    entries: BTreeMap<Slot<'a>, Entry<'a>>,
    /// What later fragments replaced.
    pub(crate) replaced: Vec<Entry<'a>>,
}

impl<'a> Merged<'a> {
    /// Lays a fragment over what is there.
    pub(crate) fn add(&mut self, fragment: Vec<Entry<'a>>) {
        for entry in fragment {
            match self
                .entries
                .entry((entry.key.table, entry.key.name, entry.part))
            {
                btree_map::Entry::Vacant(slot) => {
                    slot.insert(entry);
                }
                btree_map::Entry::Occupied(mut slot) => self.replaced.push(slot.insert(entry)),
            }
        }
    }

    /// What holds, in the order of tables and names.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.entries.values()
    }

    /// Where a key (not an entry of a map) is set.
    pub(crate) fn get(&self, table: &'static str, name: &'static str) -> Option<&Entry<'a>> {
        self.entries.get(&(table, name, None))
    }
}
