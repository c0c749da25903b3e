// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a definition, and where: file, line, column, key.
//!
//! A [`Problem`] is always printable on one line: whatever it quotes from a file has its control
//! characters escaped here, because it ends up in `STATUS=`, on terminals and in unit comments.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Serialize, Serializer};

use crate::sys;

/// Problems kept of one container; a file with more is wrong as a whole.
pub const PROBLEMS_MAX: usize = 100;

/// Characters of user text quoted in one message.
const QUOTE_MAX_CHARS: usize = 60;

/// One thing that is wrong, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    #[serde(serialize_with = "serialize_path")]
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The key with its table, such as `log.driver`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem of a file as a whole, such as one that cannot be read.
    pub fn of_file(file: &Path, message: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 1,
            column: 1,
            key: String::new(),
            message: escape(message),
        }
    }

    /// A file or directory that cannot be read.
    pub fn unreadable(path: &Path, err: &sys::Error) -> Self {
        Self::of_file(path, &format!("cannot be read: {}", err.cause))
    }

    /// What the TOML parser or a type's deserialisation says, at the place it says.
    pub fn of_toml(source: &Source, err: &toml::de::Error) -> Self {
        let offset = err.span().map_or(0, |span| span.start);
        Self::at(source, offset, "", &err.message().replace('\n', " "))
    }

    /// A problem at a byte of a file.
    pub fn at(source: &Source, offset: usize, key: &str, message: &str) -> Self {
        Self {
            file: source.path.clone(),
            line: source.line(offset),
            column: source.column(offset),
            key: escape(key),
            message: escape(message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            key: _,
            message,
        } = self;
        let file = escape(&file.to_string_lossy());
        write!(f, "{file}:{line}:{column}: {message}")
    }
}

impl std::error::Error for Problem {}

/// A path as text. serde's own way fails for one that is not UTF-8, as a drop-in's may be.
pub(crate) fn serialize_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

/// User text as it may be quoted in a message: bounded, control characters escaped.
pub(crate) fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let mut quoted: String = chars
        .by_ref()
        .take(QUOTE_MAX_CHARS)
        .flat_map(escape_char)
        .collect();
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted
}

/// The text with control characters escaped.
pub(crate) fn escape(text: &str) -> String {
    text.chars().flat_map(escape_char).collect()
}

/// Control characters, and the ones that reorder or break lines on a terminal, as escapes.
fn escape_char(c: char) -> impl Iterator<Item = char> {
    let hostile = c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let escaped = hostile.then(|| c.escape_default());
    let plain = (!hostile).then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

/// The text of one file, and the way from offsets in it to lines.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    text: String,
    /// Offsets at which lines begin; made when first asked for.
    lines: OnceLock<Vec<usize>>,
}

impl Source {
    /// A file's text.
    pub fn new(path: PathBuf, text: String) -> Self {
        Self {
            path,
            text,
            lines: OnceLock::new(),
        }
    }

    /// Where the text was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The line that holds the byte at `offset`, from 1.
    pub fn line(&self, offset: usize) -> u32 {
        u32::try_from(self.line_index(offset)).map_or(u32::MAX, |index| index.saturating_add(1))
    }

    fn line_starts(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let ends = self.text.bytes().enumerate();
            let after = ends
                .filter(|&(_, byte)| byte == b'\n')
                .map(|(at, _)| at + 1);
            std::iter::once(0).chain(after).collect()
        })
    }

    fn line_index(&self, offset: usize) -> usize {
        let starts = self.line_starts();
        starts
            .partition_point(|&start| start <= offset)
            .saturating_sub(1)
    }

    /// The column of the byte at `offset`, in characters, from 1.
    fn column(&self, offset: usize) -> u32 {
        let start = self.line_starts().get(self.line_index(offset)).copied();
        let before = start.and_then(|start| self.text.get(start..offset));
        let count = before.map_or(0, |before| before.chars().count());
        u32::try_from(count).map_or(u32::MAX, |count| count.saturating_add(1))
    }
}

/// Collects problems, up to [`PROBLEMS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds a problem at a byte of a file; `message` is made only if it is kept.
    pub(crate) fn push(
        &mut self,
        source: &Source,
        offset: usize,
        key: &str,
        message: impl FnOnce() -> String,
    ) {
        if !self.is_full() {
            self.list.push(Problem::at(source, offset, key, &message()));
        }
    }

    /// Adds one that was made elsewhere.
    pub(crate) fn add(&mut self, problem: Problem) {
        if !self.is_full() {
            self.list.push(problem);
        }
    }

    /// Whether no more are kept.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= PROBLEMS_MAX
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them: files in the order they are merged in, then by place.
    pub(crate) fn into_sorted(mut self, files: &[PathBuf]) -> Vec<Problem> {
        let rank = |problem: &Problem| files.iter().position(|file| *file == problem.file);
        self.list
            .sort_by_cached_key(|problem| (rank(problem), problem.line, problem.column));
        self.list.dedup();
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters_from_one() {
        let source = Source::new(PathBuf::from("f"), "é = 1\n\nab".to_owned());
        for (offset, expected) in [
            (0, (1, 1)),
            (3, (1, 3)),
            (7, (2, 1)),
            (9, (3, 2)),
            (99, (3, 1)),
        ] {
            let place = (source.line(offset), source.column(offset));
            assert_eq!(place, expected, "{offset}");
        }
    }

    #[test]
    fn a_problem_is_one_printable_line() {
        let problem = Problem::of_file(Path::new("a\nb\u{1b}.toml"), "x\r\u{202e}y");
        assert_eq!(problem.to_string(), "a\\nb\\u{1b}.toml:1:1: x\\r\\u{202e}y");
        assert_eq!(quote(&"a".repeat(100)).chars().count(), QUOTE_MAX_CHARS + 1);
    }
}
