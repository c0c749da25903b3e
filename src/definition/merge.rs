// SPDX-License-Identifier: Apache-2.0
//! Joining fragments: the base file first, then drop-ins in order.
//!
//! A later fragment replaces a key; maps (environment, labels, unit directives, …) are joined
//! entry by entry. Every value keeps the place it was written at. What was replaced is kept too:
//! it is checked like the rest, so that a mistake does not hide behind a drop-in.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::path::PathBuf;

use toml::de::DeValue;
use toml::{Spanned, Value};

use crate::definition::entry::{Entry, Raw};
use crate::definition::keys::{Key, Takes};
use crate::definition::take;

/// Which key, or which entry of it. Keys are told apart by their place in the key table: comparing
/// their names would be a tenth of the time it takes to load a definition.
type Slot<'a, D> = (*const Key<D>, Option<&'a str>);

/// The keys of a container and where each was set.
#[derive(Debug)]
pub struct Merged<'a, D: 'static> {
    entries: BTreeMap<Slot<'a, D>, Entry<'a, D>>,
    /// What later fragments replaced.
    pub(crate) replaced: Vec<Entry<'a, D>>,
}

impl<'a, D: 'static> Merged<'a, D> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            entries: BTreeMap::new(),
            replaced: Vec::new(),
        }
    }

    /// Lays a fragment over what is there.
    pub(crate) fn add(&mut self, fragment: Vec<Entry<'a, D>>) {
        for entry in fragment {
            match self
                .entries
                .entry((std::ptr::from_ref(entry.key), entry.part))
            {
                btree_map::Entry::Vacant(slot) => {
                    slot.insert(entry);
                }
                btree_map::Entry::Occupied(mut slot) => self.replaced.push(slot.insert(entry)),
            }
        }
    }

    /// What holds, grouped by key, in no order that matters.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<'a, D>> {
        self.entries.values()
    }

    /// Where a key (not an entry of a map) is set.
    pub(crate) fn get(&self, table: &str, name: &str) -> Option<&Entry<'a, D>> {
        self.entries()
            .find(|entry| entry.key.name == name && entry.key.table == table)
    }

    /// What holds, as values on their own, by table, name and entry.
    pub(crate) fn settings(&self, instance: Option<&str>) -> Vec<Setting> {
        let setting = |entry: &Entry<'_, D>| Setting {
            table: entry.key.table,
            name: entry.key.name,
            part: entry.part.map(str::to_owned),
            value: match (entry.value, &entry.key.takes) {
                // '%' in unit directives is systemd's.
                (Raw::Toml(value), Takes::Directives(..)) => to_value(value, None),
                (Raw::Toml(value), _) => to_value(value, instance),
                (Raw::Text(text), _) => Value::String(take::expand(text, instance).into_owned()),
            },
            file: entry.source.path().to_owned(),
            line: entry.source.line(entry.key_at),
        };
        let mut settings: Vec<_> = self.entries().map(setting).collect();
        settings.sort_by(|a, b| (a.table, a.name, &a.part).cmp(&(b.table, b.name, &b.part)));
        settings
    }
}

/// One key or map entry with its value, as `wharf cat` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The table, empty at top level.
    pub table: &'static str,
    /// The key.
    pub name: &'static str,
    /// The entry, if the key is a map.
    pub part: Option<String>,
    /// The value, with `%i` replaced.
    pub value: Value,
    /// Where it was set.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
}

fn to_value(value: &DeValue<'_>, instance: Option<&str>) -> Value {
    let entry = |value: &Spanned<DeValue<'_>>| to_value(value.get_ref(), instance);
    match value {
        DeValue::String(text) => Value::String(take::expand(text, instance).into_owned()),
        DeValue::Integer(_) => match take::integer(value) {
            Some(number) => Value::Integer(number),
            // Too large for TOML, and so no valid value of any key.
            None => Value::String(take::scalar_text(value).unwrap_or_default().into_owned()),
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(on) => Value::Boolean(*on),
        DeValue::Datetime(datetime) => Value::Datetime(*datetime),
        DeValue::Array(items) => Value::Array(items.iter().map(entry).collect()),
        DeValue::Table(values) => Value::Table(
            values
                .iter()
                .map(|(name, value)| (name.get_ref().to_string(), entry(value)))
                .collect(),
        ),
    }
}
