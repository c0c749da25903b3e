// SPDX-License-Identifier: Apache-2.0
//! The text of unit files and drop-ins: sections of directives, and what their values may hold.
//!
//! systemd's parser has no quoting that protects a whole value, so safety is in the types: a
//! [`Value`] cannot hold a character that would begin another directive, and rendering takes care
//! of the two characters that change a line's meaning (`%`, and `\` at its end). Pure; what goes
//! into a unit is decided by the callers.

use std::path::Path;
use std::time::Duration;

pub mod escape;
pub mod quote;

/// Longest value, in bytes as rendered. systemd reads lines of at most 1 MiB (`LONG_LINE_MAX`) and
/// refuses the whole unit otherwise; the difference leaves room for the directive's name.
pub const VALUE_MAX_BYTES: usize = (1 << 20) - 4096;

/// Why a text cannot be written into a unit file.
///
/// The generator prints it behind the definition's name; nobody matches on the kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// systemd starts a new directive at LF, CR and NUL; no other control character is of use.
    #[error("control character U+{0:04X} cannot be written into a unit file; remove it")]
    Control(u32),
    /// systemd takes text that holds a Unicode noncharacter for invalid UTF-8, and drops the line.
    #[error("noncharacter U+{0:04X} cannot be written into a unit file; remove it")]
    Noncharacter(u32),
    /// See [`VALUE_MAX_BYTES`].
    #[error("a value of {0} bytes cannot be written into a unit file; the longest is 1044480")]
    TooLong(usize),
    /// A path that is not UTF-8 would be dropped by systemd, and the unit be weaker than meant.
    #[error("the path '{0}' is not UTF-8 and cannot be written into a unit file; rename it")]
    NotUtf8(String),
    /// Letters, digits and '-' only.
    #[error("'{0}' is not the name of a directive: use letters and digits")]
    Directive(String),
}

/// The right side of a directive, fit to stand on one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value(String);

impl Value {
    /// Text that systemd is to take as it is: `%` is doubled. Blanks at both ends are cut, as
    /// systemd would.
    pub fn text(text: &str) -> Result<Self, ValueError> {
        Self::checked(text.trim_matches(' ').replace('%', "%%"))
    }

    /// The administrator's own words for systemd, specifiers and quotes included.
    pub fn verbatim(text: &str) -> Result<Self, ValueError> {
        Self::checked(text.trim_matches(' ').to_owned())
    }

    /// A path for a directive that takes one unquoted path (`SourcePath=`).
    pub fn path(path: &Path) -> Result<Self, ValueError> {
        Self::text(utf8(path)?)
    }

    /// Words for a directive that splits its value: each is quoted where it needs it, `%` is
    /// doubled.
    pub fn words<I>(words: I) -> Result<Self, ValueError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let quoted: Vec<String> = words
            .into_iter()
            .map(|word| quote::word(&word.as_ref().replace('%', "%%")))
            .collect();
        Self::checked(quoted.join(" "))
    }

    /// A path as one word of a directive that splits its value (`RequiresMountsFor=`).
    pub fn path_word(path: &Path) -> Result<Self, ValueError> {
        Self::words([utf8(path)?])
    }

    /// Text that is known when wharf is built.
    pub fn constant(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// A number.
    pub fn number(number: impl Into<i128>) -> Self {
        Self(number.into().to_string())
    }

    /// A time span (systemd.time(7)) in the largest unit that holds it exactly.
    pub fn duration(duration: Duration) -> Self {
        let micros = duration.as_micros();
        Self(match (micros % 1_000_000, micros % 1_000) {
            (0, _) => format!("{}s", micros / 1_000_000),
            (_, 0) => format!("{}ms", micros / 1_000),
            (_, _) => format!("{micros}us"),
        })
    }

    /// The value as rendered.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn checked(text: String) -> Result<Self, ValueError> {
        check(&text)?;
        if text.len() > VALUE_MAX_BYTES {
            return Err(ValueError::TooLong(text.len()));
        }
        Ok(Self(text))
    }
}

fn utf8(path: &Path) -> Result<&str, ValueError> {
    path.to_str()
        .ok_or_else(|| ValueError::NotUtf8(path.display().to_string()))
}

fn check(text: &str) -> Result<(), ValueError> {
    for c in text.chars() {
        let code = u32::from(c);
        if c.is_control() {
            return Err(ValueError::Control(code));
        }
        // unichar_is_valid() of systemd: U+FDD0 to U+FDEF and the last two of every plane.
        if (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe {
            return Err(ValueError::Noncharacter(code));
        }
    }
    Ok(())
}

/// A section of a unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    name: &'static str,
    entries: Vec<(String, Value)>,
}

impl Section {
    /// An empty section, such as `Unit`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            entries: Vec::new(),
        }
    }

    /// Adds a directive of ours.
    pub fn add(&mut self, directive: &'static str, value: Value) -> &mut Self {
        self.entries.push((directive.to_owned(), value));
        self
    }

    /// Adds a directive that the administrator named.
    pub fn add_named(&mut self, directive: &str, value: Value) -> Result<(), ValueError> {
        let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if directive.is_empty() || !directive.bytes().all(valid) {
            let printable = directive.escape_debug().to_string();
            return Err(ValueError::Directive(printable));
        }
        self.entries.push((directive.to_owned(), value));
        Ok(())
    }

    /// Whether there is nothing to render.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A unit file or drop-in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unit {
    comments: Vec<String>,
    sections: Vec<Section>,
}

impl Unit {
    /// A unit without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a comment line to the head. Any text will do: control characters are shown escaped.
    pub fn comment(&mut self, text: &str) -> &mut Self {
        let line = text
            .chars()
            .map(|c| match c {
                c if c.is_control() => c.escape_default().to_string(),
                c => c.to_string(),
            })
            .collect();
        self.comments.push(line);
        self
    }

    /// Adds a section, unless it is empty.
    pub fn section(&mut self, section: Section) -> &mut Self {
        if !section.is_empty() {
            self.sections.push(section);
        }
        self
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(1024);
        for comment in &self.comments {
            push_line(&mut text, &["# ", comment]);
        }
        for Section { name, entries } in &self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            push_line(&mut text, &["[", name, "]"]);
            for (directive, Value(value)) in entries {
                push_line(&mut text, &[directive, "=", value]);
            }
        }
        text
    }
}

/// A line that ends in an odd number of backslashes swallows the next one (threats U2).
/// systemd looks for the backslash before it cuts blanks off the value, so a blank behind it ends
/// the line and is not part of the value.
fn push_line(text: &mut String, parts: &[&str]) {
    let start = text.len();
    for part in parts {
        text.push_str(part);
    }
    let backslashes = text
        .bytes()
        .skip(start)
        .rev()
        .take_while(|b| *b == b'\\')
        .count();
    if backslashes % 2 == 1 {
        text.push(' ');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Result<Value, ValueError>) -> String {
        let mut section = Section::new("Unit");
        section.add("A", value.unwrap());
        Unit::new().section(section).render()
    }

    #[test]
    fn u1_control_characters_are_refused() {
        for c in ['\0', '\n', '\r', '\t', '\x0b', '\x1b', '\x7f', '\u{85}'] {
            let text = format!("x{c}Injected=1");
            for value in [
                Value::text(&text),
                Value::verbatim(&text),
                Value::words([&text]),
                Value::path(Path::new(&text)),
            ] {
                assert_eq!(value, Err(ValueError::Control(c.into())), "{text:?}");
            }
        }
        for c in ['\u{fdd0}', '\u{fffe}', '\u{1ffff}'] {
            let err = Value::text(&c.to_string()).unwrap_err();
            assert_eq!(err, ValueError::Noncharacter(c.into()), "{c:?}");
        }
        // These are letters to systemd: neither begins a line.
        assert!(Value::text("a\u{2028}b\u{a0}").is_ok());
    }

    #[test]
    fn u2_u3_values_mean_themselves() {
        for (text, expected) in [
            ("plain", "[Unit]\nA=plain\n"),
            ("  blanks  ", "[Unit]\nA=blanks\n"),
            ("%h 100%", "[Unit]\nA=%%h 100%%\n"),
            ("x\\", "[Unit]\nA=x\\ \n"),
            ("x\\\\", "[Unit]\nA=x\\\\\n"),
            ("\\\\\\", "[Unit]\nA=\\\\\\ \n"),
            ("[Service]", "[Unit]\nA=[Service]\n"),
        ] {
            assert_eq!(line(Value::text(text)), expected, "{text:?}");
        }
        assert_eq!(line(Value::verbatim("%h\\")), "[Unit]\nA=%h\\ \n");
        let path = Path::new("/srv/a b/%i\\\"");
        assert_eq!(
            line(Value::path_word(path)),
            "[Unit]\nA=\"/srv/a b/%%i\\\\\\\"\"\n"
        );
    }

    #[test]
    fn u6_u7_lines_are_bounded_and_utf8() {
        use std::os::unix::ffi::OsStrExt as _;
        assert!(Value::text(&"x".repeat(VALUE_MAX_BYTES)).is_ok());
        let percent = "%".repeat(VALUE_MAX_BYTES / 2 + 1);
        assert_eq!(
            Value::text(&percent),
            Err(ValueError::TooLong(VALUE_MAX_BYTES + 2))
        );
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/\xff"));
        assert!(matches!(Value::path(path), Err(ValueError::NotUtf8(_))));
    }

    #[test]
    fn comments_and_directives_cannot_break_out() {
        let mut unit = Unit::new();
        unit.comment("a\n[Service]\nExecStart=/bin/evil\\");
        assert_eq!(unit.render(), "# a\\n[Service]\\nExecStart=/bin/evil\\ \n");
        let mut section = Section::new("Service");
        for bad in ["", "A=B", "A\nB", "[Unit]", "# x", "Ä"] {
            let added = section.add_named(bad, Value::constant("x"));
            assert!(added.is_err(), "{bad:?}");
        }
        assert!(section.is_empty());
    }

    #[test]
    fn durations_are_exact() {
        for (micros, expected) in [
            (0, "0s"),
            (90_000_000, "90s"),
            (1_500_000, "1500ms"),
            (1, "1us"),
            (1_000_001, "1000001us"),
        ] {
            let value = Value::duration(Duration::from_micros(micros));
            assert_eq!(value.as_str(), expected, "{micros}");
        }
    }
}
