// SPDX-License-Identifier: Apache-2.0
//! One parsed file: which keys it sets, where, and to what, as written.
//!
//! Syntax errors and unknown keys are found here. Values are not looked at but for what merging
//! needs, the entries of maps. Everything borrows from the file's text: the common start or
//! generator run copies only what ends up in a definition.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::definition::entry::{Entry, Raw};
use crate::definition::keys::{self, Key};
use crate::definition::kind::Kind;
use crate::definition::problem::{Problems, Source, quote};
use crate::definition::unknown;

/// Map entries and keys accepted in one file; more is a mistake or an attack (threats C8).
const ENTRIES_MAX: usize = 10_000;

/// The largest file that is read: systemd refuses lines of more (threats U6).
pub(crate) const FILE_MAX_BYTES: u64 = 1 << 20;

/// A file's text, parsed as TOML.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    pub(crate) source: &'a Source,
    table: Spanned<DeTable<'a>>,
    errors: Vec<toml::de::Error>,
}

/// Parses a file's text; errors are kept for [`Parsed::read`].
pub(crate) fn parse(source: &Source) -> Parsed<'_> {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    Parsed {
        source,
        table,
        errors,
    }
}

impl<'a> Parsed<'a> {
    /// The keys that the file sets. What is wrong with its syntax and its keys goes to `problems`.
    pub(crate) fn read<D: Kind>(&'a self, problems: &mut Problems) -> Vec<Entry<'a, D>> {
        for error in &self.errors {
            report_syntax_error(self.source, error, problems);
        }
        let mut reader = Reader {
            source: self.source,
            sound_until: self.sound_until(),
            entries: Vec::new(),
            problems,
        };
        reader.read_table("", self.table.get_ref());
        reader.entries
    }

    /// Where the line of the first slip begins: what was parsed from there on is guesswork, and
    /// looking for mistakes in it would only make riddles. A key set twice is no such slip.
    fn sound_until(&self) -> usize {
        let slips = self.errors.iter().filter(|error| !is_duplicate(error));
        let first = slips.map(|error| error.span().map_or(0, |span| span.start));
        let text = self.source.text();
        first.min().map_or(usize::MAX, |at| {
            let before = text.get(..at).unwrap_or(text);
            before.rfind('\n').map_or(0, |newline| newline + 1)
        })
    }
}

fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().starts_with("duplicate key")
}

fn report_syntax_error(source: &Source, error: &toml::de::Error, problems: &mut Problems) {
    let span = error.span().unwrap_or(0..0);
    let written = source.text().get(span.clone()).unwrap_or_default();
    let message = error.message();
    // The parser takes "nginx" for a failed "nan", and other words for what they resemble.
    let like_text = written.starts_with(|c: char| c.is_alphabetic() || c == '/');
    let unquoted = like_text
        && !written.contains('\n')
        && (message.starts_with("invalid") || message.contains("must be quoted"))
        && !message.contains("key");
    let key = if is_duplicate(error) { written } else { "" };
    problems.push(source, span.start, key, || {
        if is_duplicate(error) {
            format!("'{}' is set twice", quote(written))
        } else if message.contains("recursion") {
            "tables or lists are nested too deeply".to_owned()
        } else if unquoted {
            format!("strings must be quoted, write \"{}\"", quote(written))
        } else {
            format!("not valid TOML: {message}")
        }
    });
}

struct Reader<'a, 'p, D: 'static> {
    source: &'a Source,
    sound_until: usize,
    entries: Vec<Entry<'a, D>>,
    problems: &'p mut Problems,
}

impl<'a, D: Kind> Reader<'a, '_, D> {
    fn read_table(&mut self, table: &'static str, values: &'a DeTable<'a>) {
        for (name, value) in values {
            let key_at = name.span().start;
            if self.problems.is_full() {
                return;
            }
            if key_at >= self.sound_until {
                continue;
            }
            let name = name.get_ref().as_ref();
            let sub_table = D::INFO.tables.iter().copied().find(|t| *t == name);
            match (sub_table.filter(|_| table.is_empty()), value.get_ref()) {
                (Some(sub_table), DeValue::Table(values)) => self.read_table(sub_table, values),
                (Some(_), _) => self.problems.push(self.source, key_at, name, || {
                    format!("{name}: it is a table, write [{name}] and its keys below")
                }),
                (None, _) => match D::find_key(table, name) {
                    Some(key) if key.is_map() => self.read_map(key, key_at, value),
                    Some(key) => self.add(key, None, key_at, Place::of(value)),
                    None => {
                        self.problems
                            .push(self.source, key_at, &unknown::path(table, name), || {
                                unknown::describe::<D>(table, name)
                            })
                    }
                },
            }
        }
    }

    fn read_map(&mut self, key: &'static Key<D>, key_at: usize, value: &'a Spanned<DeValue<'a>>) {
        match (value.get_ref(), &key.takes) {
            (DeValue::Table(values), _) => {
                for (part, value) in values {
                    let at = part.span().start;
                    if at < self.sound_until {
                        self.add(key, Some(part.get_ref()), at, Place::of(value));
                    }
                }
            }
            (DeValue::Array(items), keys::Takes::Map(..)) => self.read_pairs(key, items),
            (_, takes) => {
                let expected = takes.words();
                let path = key.path();
                self.problems
                    .push(self.source, value.span().start.max(key_at), &path, || {
                        format!("{path}: expected {expected}")
                    });
            }
        }
    }

    /// Reads a map written as in Compose: a list of `KEY=VALUE`.
    fn read_pairs(&mut self, key: &'static Key<D>, items: &'a [Spanned<DeValue<'a>>]) {
        let mut seen = std::collections::BTreeSet::new();
        for item in items {
            let at = item.span().start;
            let pair = item.get_ref().as_str().and_then(|s| s.split_once('='));
            match pair {
                Some((part, _)) if !seen.insert(part) => {
                    let path = format!("{}.{part}", key.path());
                    self.problems.push(self.source, at, &path, || {
                        format!("{}: '{}' is set twice", key.path(), quote(part))
                    });
                }
                Some((part, text)) => {
                    let value = Place {
                        at,
                        value: Raw::Text(text),
                    };
                    self.add(key, Some(part), at, value);
                }
                None => self.problems.push(self.source, at, &key.path(), || {
                    format!("{}: expected a string KEY=VALUE", key.path())
                }),
            }
        }
    }

    fn add(
        &mut self,
        key: &'static Key<D>,
        part: Option<&'a str>,
        key_at: usize,
        place: Place<'a>,
    ) {
        if self.entries.len() == ENTRIES_MAX {
            self.problems.push(self.source, key_at, "", || {
                format!("more than {ENTRIES_MAX} keys and map entries in one file")
            });
            // One report is enough.
            self.sound_until = 0;
        }
        if self.sound_until > 0 {
            self.entries.push(Entry {
                key,
                part,
                source: self.source,
                key_at,
                value_at: place.at,
                value: place.value,
            });
        }
    }
}

/// A value and where it is.
struct Place<'a> {
    at: usize,
    value: Raw<'a>,
}

impl<'a> Place<'a> {
    fn of(value: &'a Spanned<DeValue<'a>>) -> Self {
        Self {
            at: value.span().start,
            value: Raw::Toml(value.get_ref()),
        }
    }
}
