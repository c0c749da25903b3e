// SPDX-License-Identifier: Apache-2.0
//! Entries: one key that a file sets, where, and to what, as written.

use toml::de::DeValue;

use crate::definition::keys::Key;
use crate::definition::problem::Source;

/// A value as written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// A TOML value.
    Toml(&'a DeValue<'a>),
    /// The text after the '=' of a `KEY=VALUE` in a list.
    Text(&'a str),
}

/// One key that a file sets, or one entry of a key that is a map.
#[derive(Debug)]
pub(crate) struct Entry<'a, D: 'static> {
    /// The key.
    pub(crate) key: &'static Key<D>,
    /// The entry's name, if the key is a map.
    pub(crate) part: Option<&'a str>,
    /// The file.
    pub(crate) source: &'a Source,
    /// Where the key is written, in bytes.
    pub(crate) key_at: usize,
    /// Where the value is written, in bytes.
    pub(crate) value_at: usize,
    /// The value.
    pub(crate) value: Raw<'a>,
}

impl<D> Entry<'_, D> {
    /// The key with its table and entry, such as `environment.PATH`.
    pub(crate) fn path(&self) -> String {
        match self.part {
            Some(part) => format!("{}.{part}", self.key.path()),
            None => self.key.path(),
        }
    }
}
