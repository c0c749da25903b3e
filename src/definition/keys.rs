// SPDX-License-Identifier: Apache-2.0
//! The key table: every key of a definition, what it takes, and where it goes.
//!
//! This is the only list of keys. Parsing, checking, the JSON Schema and the error messages are
//! made from it, and a test compares it with wharf-container(5). A key's setter parses what was
//! written and puts it into the [`Definition`]; how fragments merge follows from what a key takes:
//! maps merge entry by entry, everything else replaces.

use std::fmt::Display;
use std::str::FromStr;

use crate::definition::{Definition, Hook};

mod container;
mod lifecycle;
mod process;
mod resources;
mod security;
mod storage;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The table it is in, empty at top level.
    pub table: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What may be written, and the setter.
    pub takes: Takes,
    /// The default as wharf-container(5) gives it.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// How a text becomes a part of the definition; the error is a fact without place or key.
pub type SetText = fn(&mut Definition, &str) -> Result<(), String>;
/// As [`SetText`], for one entry of a map.
pub type SetEntry = fn(&mut Definition, &str, &str) -> Result<(), String>;

/// What a key takes. Each kind has its own setter, so that a value of another type cannot arrive.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// `true` or `false`.
    Bool(fn(&mut Definition, bool)),
    /// A whole number between two bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// The setter.
        set: fn(&mut Definition, i64),
    },
    /// One of a few words.
    Choice(&'static [Choice]),
    /// A string of some form.
    Text(Form, SetText),
    /// A string of some form, or a number that means the same as the string of its digits.
    Scalar(Form, SetText),
    /// A list of strings of some form, or one such string. Called once for each.
    Texts(Form, SetText),
    /// A command line: a list of arguments, or a string that is split as a shell would.
    Command(fn(&mut Definition, Vec<String>)),
    /// A table of strings, or a list of `KEY=VALUE`.
    Map(Form, SetEntry),
    /// A table of limits: a number, a string, or `{ soft = …, hard = … }`.
    Ulimits(SetEntry),
    /// A signal, or a command as a list of strings.
    Reload(SetText, fn(&mut Definition, Vec<String>)),
    /// Hooks: paths or tables, or one of them.
    Hooks(fn(&mut Definition, Vec<Hook>)),
    /// A table of unit directives.
    Directives(Section, fn(&mut Definition, String, Vec<String>)),
}

/// A word of a closed set and what it sets.
#[derive(Debug)]
pub struct Choice {
    /// The word.
    pub word: &'static str,
    /// The setter.
    pub set: fn(&mut Definition),
}

/// What the strings of a key look like, for people and for the JSON Schema.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// A noun phrase: "a size such as 512M".
    pub words: &'static str,
    /// A regular expression (ECMA 262) that every valid string matches; not every string that
    /// matches is valid. Empty for any string.
    pub pattern: &'static str,
}

/// A section of a unit file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `[Unit]`
    Unit,
    /// `[Service]`
    Service,
    /// `[Install]`
    Install,
}

impl Key {
    /// The key with its table, such as `log.driver`.
    pub fn path(&self) -> String {
        if self.table.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}.{}", self.table, self.name)
        }
    }

    /// Whether fragments merge it entry by entry.
    pub fn is_map(&self) -> bool {
        match self.takes {
            Takes::Map(..) | Takes::Ulimits(_) | Takes::Directives(..) => true,
            Takes::Bool(_)
            | Takes::Integer { .. }
            | Takes::Choice(_)
            | Takes::Text(..)
            | Takes::Scalar(..)
            | Takes::Texts(..)
            | Takes::Command(_)
            | Takes::Reload(..)
            | Takes::Hooks(_) => false,
        }
    }
}

/// Tables whose entries are keys of their own, in the order they are printed in.
pub const TABLES: [&str; 3] = ["resources", "log", "hooks"];

/// Every key, by topic, in the order they are printed in.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [
        container::KEYS,
        process::KEYS,
        storage::KEYS,
        security::KEYS,
        lifecycle::KEYS,
        resources::KEYS,
    ]
    .into_iter()
    .flatten()
}

/// The key of that name in that table.
pub fn find(table: &str, name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name && key.table == table)
}

/// Parses into a place.
fn put<T: FromStr<Err: Display>>(place: &mut T, text: &str) -> Result<(), String> {
    *place = text.parse().map_err(|err: T::Err| err.to_string())?;
    Ok(())
}

/// Parses into a place that may be empty.
fn put_some<T: FromStr<Err: Display>>(place: &mut Option<T>, text: &str) -> Result<(), String> {
    *place = Some(text.parse().map_err(|err: T::Err| err.to_string())?);
    Ok(())
}

/// Parses and appends.
fn push<T: FromStr<Err: Display>>(list: &mut Vec<T>, text: &str) -> Result<(), String> {
    list.push(text.parse().map_err(|err: T::Err| err.to_string())?);
    Ok(())
}

const ABSOLUTE_PATH: Form = Form {
    words: "an absolute path",
    pattern: "^/",
};

const DURATION: Form = Form {
    words: "a duration such as 10s or 1min 30s, or a number of seconds",
    pattern: "^[0-9]",
};

const TIMEOUT: Form = Form {
    words: "a duration such as 10s or 1min 30s, a number of seconds, or infinity",
    pattern: "^([0-9]|infinity$)",
};

const SIZE: Form = Form {
    words: "a size such as 512M or 1G, or a number of bytes",
    pattern: "^[0-9]+([KkMmGgTtPp]?([Ii]?[Bb])?)$",
};

const LINE: Form = Form {
    words: "one line of text",
    pattern: "",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_are_unique_and_documented() {
        let mut seen = BTreeSet::new();
        for key in all() {
            let path = key.path();
            assert!(key.doc.ends_with('.'), "{path}");
            assert!(!key.default.is_empty(), "{path}");
            assert!(
                key.table.is_empty() || TABLES.contains(&key.table),
                "{path}"
            );
            assert!(!TABLES.contains(&key.name), "{path}");
            assert!(seen.insert(path.clone()), "{path}");
        }
    }
}
