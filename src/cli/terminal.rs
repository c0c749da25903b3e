// SPDX-License-Identifier: Apache-2.0
//! What people see: standard output, colours, tables, escaped text.
//!
//! Text that came from a container, an image or the journal can hold escape sequences that drive
//! the terminal (threats L1). Everything printed for people goes through [`escape`]; what
//! goes to a pipe for programs is unchanged, and the caller chooses by [`Out::is_terminal`].

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

/// Standard output, buffered when it is no terminal.
pub struct Out {
    inner: Box<dyn Write>,
    terminal: bool,
    coloured: bool,
}

impl std::fmt::Debug for Out {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Out")
            .field("terminal", &self.terminal)
            .field("coloured", &self.coloured)
            .finish_non_exhaustive()
    }
}

/// A colour that means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// As the terminal has it.
    Plain,
    /// Running.
    Good,
    /// Needs attention.
    Bad,
    /// Neither, such as paused.
    Between,
    /// Of less weight.
    Dim,
}

impl Out {
    /// The process's standard output. Colours need a terminal and no `NO_COLOR` (no-color.org).
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let inner: Box<dyn Write> = if terminal {
            Box::new(io::stdout())
        } else {
            Box::new(io::BufWriter::with_capacity(1 << 16, io::stdout()))
        };
        Self {
            inner,
            terminal,
            coloured: terminal && !refused,
        }
    }

    /// Whether a person reads along.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes one line as it is.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        self.inner.write_all(text.as_bytes())?;
        self.inner.write_all(b"\n")
    }

    /// Writes a document of its own, as JSON.
    pub fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut self.inner, document)?;
        self.inner.write_all(b"\n")
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }

    /// `text` in `colour` where colours are wanted.
    pub fn paint(&self, text: &str, colour: Colour) -> String {
        let code = match colour {
            _ if !self.coloured => return text.to_owned(),
            Colour::Plain => return text.to_owned(),
            Colour::Good => "32",
            Colour::Bad => "31",
            Colour::Between => "33",
            Colour::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Writes a table with two spaces between columns; the last column is not padded.
    pub fn table(&mut self, table: &Table) -> io::Result<()> {
        let widths = table.widths();
        for row in std::iter::once(&table.header).chain(&table.rows) {
            let mut line = String::new();
            let last = row.len().saturating_sub(1);
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line.push_str(&self.paint(&cell.text, cell.colour));
                if index < last {
                    let padding = width.saturating_sub(width_of(&cell.text)) + 2;
                    line.extend(std::iter::repeat_n(' ', padding));
                }
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    /// A cell; control characters are escaped.
    pub fn new(text: &str, colour: Colour) -> Self {
        Self {
            text: escape(text).into_owned(),
            colour,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Colour::Plain)
    }
}

/// Rows under a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these column names.
    pub fn new(columns: &[&str]) -> Self {
        Self {
            header: columns.iter().map(|&column| column.into()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|c| width_of(&c.text)).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(width_of(&cell.text));
            }
        }
        widths
    }
}

/// Columns a text takes: one per character, two for the wide East Asian blocks and emoji, none for
/// combining marks. Names and references are ASCII; this is for descriptions and messages.
fn width_of(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036f | 0x200b..=0x200f | 0xfe00..=0xfe0f => 0,
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
            0xfe30..=0xfe6f | 0xff00..=0xff60 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

/// The text with control characters, and those that reorder text, made visible. Line feed and tab
/// stay; a caller that wants one line replaces them itself.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if !is_hostile(c) {
            escaped.push(c);
        } else if u32::from(c) < 0x100 {
            // Writing to a String cannot fail.
            write!(escaped, "\\x{:02x}", u32::from(c)).ok();
        } else {
            write!(escaped, "\\u{{{:x}}}", u32::from(c)).ok();
        }
    }
    Cow::Owned(escaped)
}

/// As [`escape`], for bytes that need not be UTF-8: what is not becomes `\xNN`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        escaped.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            write!(escaped, "\\x{byte:02x}").ok();
        }
    }
    escaped
}

/// C0 and C1 controls, and the bidirectional overrides (CVE-2021-42574).
fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_table() {
        let cases = [
            ("plain", "plain"),
            ("tab\tand\nline", "tab\tand\nline"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("over\rwrite", "over\\x0dwrite"),
            ("c1 \u{9b}31m", "c1 \\x9b31m"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("Grüße 世界", "Grüße 世界"),
        ];
        for (input, expected) in cases {
            assert_eq!(escape(input), expected, "{input:?}");
        }
        assert_eq!(escape_bytes(b"ok \xff\x1b[2J"), "ok \\xff\\x1b[2J");
    }

    #[test]
    fn columns_line_up_by_width() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.push(vec!["世".into(), "running".into()]);
        table.push(vec!["web-long".into(), "x\x1b".into()]);
        assert_eq!(table.widths(), [8, 7]);
        assert_eq!(width_of("世"), 2);
    }
}
