// SPDX-License-Identifier: Apache-2.0
//! Keys: what each takes, and where it goes.
//!
//! The tables of a kind (`Kind::keys`) are the only list of its keys. Parsing, checking, the JSON
//! Schema and the error messages are made from them, and a test compares them with the manual. A key's
//! setter parses what was written and puts it into the definition `D`; how fragments merge follows from
//! what a key takes: maps merge entry by entry, everything else replaces.

use std::fmt::Display;
use std::str::FromStr;

use crate::definition::value::hook::Hook;
use crate::definition::value::words::Words;

/// One key.
#[derive(Debug)]
pub struct Key<D: 'static> {
    /// The table it is in, empty at top level.
    pub table: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What may be written, and the setter.
    pub takes: Takes<D>,
    /// The default as the manual gives it.
    pub default: &'static str,
    /// One sentence.
    pub doc: &'static str,
}

/// How a text becomes a part of the definition; the error is a fact without place or key.
pub type SetText<D> = fn(&mut D, &str) -> Result<(), String>;
/// As [`SetText`], for one entry of a map.
pub type SetEntry<D> = fn(&mut D, &str, &str) -> Result<(), String>;

/// What a key takes. Each kind has its own setter, so that a value of another type cannot arrive.
#[derive(Debug)]
pub enum Takes<D: 'static> {
    /// `true` or `false`.
    Bool(fn(&mut D, bool)),
    /// A whole number between two bounds.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
        /// The setter.
        set: fn(&mut D, i64),
    },
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>, SetText<D>),
    /// A string of some form.
    Text(Form, SetText<D>),
    /// A string of some form, or a number that means the same as the string of its digits.
    Scalar(Form, SetText<D>),
    /// A list of strings of some form, or one such string. Called once for each.
    Texts(Form, SetText<D>),
    /// A command line: a list of arguments, or a string that is split as a shell would.
    Command(fn(&mut D, Vec<String>)),
    /// A table of strings, or a list of `KEY=VALUE`.
    Map(Form, SetEntry<D>),
    /// A table of limits: a number, a string, or `{ soft = …, hard = … }`.
    Ulimits(SetEntry<D>),
    /// A signal, or a command as a list of strings.
    Reload(SetText<D>, fn(&mut D, Vec<String>)),
    /// Hooks: paths or tables, or one of them.
    Hooks(fn(&mut D, Vec<Hook>)),
    /// A table of unit directives.
    Directives(Section, fn(&mut D, String, Vec<String>)),
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

impl<D> Key<D> {
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
            | Takes::Choice(..)
            | Takes::Text(..)
            | Takes::Scalar(..)
            | Takes::Texts(..)
            | Takes::Command(_)
            | Takes::Reload(..)
            | Takes::Hooks(_) => false,
        }
    }
}

/// Parses into a place.
pub(crate) fn put<T: FromStr<Err: Display>>(place: &mut T, text: &str) -> Result<(), String> {
    *place = text.parse().map_err(|err: T::Err| err.to_string())?;
    Ok(())
}

/// Parses into a place that may be empty.
pub(crate) fn put_some<T: FromStr<Err: Display>>(
    place: &mut Option<T>,
    text: &str,
) -> Result<(), String> {
    *place = Some(text.parse().map_err(|err: T::Err| err.to_string())?);
    Ok(())
}

/// Puts the value of one of a few words into a place.
pub(crate) fn put_word<T: Words>(place: &mut T, word: &str) -> Result<(), String> {
    *place = T::of_word(word).ok_or("unknown word")?;
    Ok(())
}

/// Parses and appends.
pub(crate) fn push<T: FromStr<Err: Display>>(list: &mut Vec<T>, text: &str) -> Result<(), String> {
    list.push(text.parse().map_err(|err: T::Err| err.to_string())?);
    Ok(())
}

pub(crate) const ABSOLUTE_PATH: Form = Form {
    words: "an absolute path",
    pattern: "^/",
};

pub(crate) const DURATION: Form = Form {
    words: "a duration such as 10s or 1min 30s, or a number of seconds",
    pattern: "^[0-9]",
};

pub(crate) const TIMEOUT: Form = Form {
    words: "a duration such as 10s or 1min 30s, a number of seconds, or infinity",
    pattern: "^([0-9]|infinity$)",
};

pub(crate) const SIZE: Form = Form {
    words: "a size such as 512M or 1G, or a number of bytes",
    pattern: "^[0-9]+([KkMmGgTtPp]?([Ii]?[Bb])?)$",
};

pub(crate) const IMAGE: Form = Form {
    words: "an image reference such as nginx:1",
    pattern: "^[A-Za-z0-9\\[][A-Za-z0-9._/:@+\\[\\]-]*$",
};

pub(crate) const UNIT_NAME: Form = Form {
    words: "the name of a unit",
    pattern: "^[A-Za-z0-9:_.\\\\@-]+\\.[a-z]+$",
};

pub(crate) const LINE: Form = Form {
    words: "one line of text",
    pattern: "",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::definition::Definition;
    use crate::definition::kind::Kind;
    use crate::definition::kinds::image::ImageDefinition;

    fn check<D: Kind>() {
        let mut seen = BTreeSet::new();
        for key in D::all_keys() {
            let path = key.path();
            assert!(key.doc.ends_with('.'), "{path}");
            assert!(!key.default.is_empty(), "{path}");
            assert!(
                key.table.is_empty() || D::INFO.tables.contains(&key.table),
                "{path}"
            );
            assert!(!D::INFO.tables.contains(&key.name), "{path}");
            assert!(seen.insert(path.clone()), "{path}");
        }
    }

    #[test]
    fn keys_are_unique_and_documented() {
        check::<Definition>();
        check::<ImageDefinition>();
    }
}
