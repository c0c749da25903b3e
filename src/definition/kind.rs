// SPDX-License-Identifier: Apache-2.0
//! What makes a kind of definition: where its files are, which keys it has, what it checks.
//!
//! Finding files, parsing, merging, hints, the origin of values, the schema and the printed forms are
//! the same for all kinds; they ask this trait for what differs.

use std::path::PathBuf;

use crate::definition::Origin;
use crate::definition::checker::Checker;
use crate::definition::keys::Key;
use crate::name::ContainerName;

/// A kind of definition; the type that implements it is one definition of that kind, checked.
pub trait Kind: Sized + Send + 'static {
    /// Names and places.
    const INFO: &'static KindInfo;

    /// The key tables, by topic, in the order they are printed in.
    fn keys() -> &'static [&'static [Key<Self>]];

    /// Every key, in the order they are printed in.
    fn all_keys() -> impl Iterator<Item = &'static Key<Self>> {
        Self::keys().iter().copied().flatten()
    }

    /// The key of that name in that table.
    fn find_key(table: &str, name: &str) -> Option<&'static Key<Self>> {
        Self::all_keys().find(|key| key.name == name && key.table == table)
    }

    /// A definition in which no key is set.
    fn blank(name: &ContainerName) -> Self;

    /// Takes the files it was merged from, the base file first, and where each key was set.
    fn set_origins(&mut self, sources: Vec<PathBuf>, origins: Vec<Origin>);

    /// The rules that concern more than one key.
    fn check(&self, checker: &mut Checker<'_, '_, Self>);
}

/// Names and places of a kind.
#[derive(Debug)]
pub struct KindInfo {
    /// The word of the kind: `container`. Files are in `containers/`, and drop-ins for all of them in
    /// `containers/container.toml.d/`.
    pub word: &'static str,
    /// The word with its article.
    pub noun: &'static str,
    /// The manual page.
    pub manual: &'static str,
    /// Tables whose entries are keys of their own, in the order they are printed in.
    pub tables: &'static [&'static str],
    /// Whether `NAME@.toml` is a template.
    pub templates: Templates,
    /// What other tools call our keys: their word and ours with its table.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// Keys that other tools have for such things and we do not have yet. One that is a key by now is
    /// taken as that.
    pub not_yet: &'static [&'static str],
}

/// Whether a kind has templates and instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Templates {
    /// `NAME@.toml` defines every `NAME@INSTANCE`.
    Yes,
    /// '@' is in no name.
    No,
}

impl KindInfo {
    /// The directory of its files in each definition directory.
    pub fn directory(&self) -> String {
        format!("{}s", self.word)
    }
}
