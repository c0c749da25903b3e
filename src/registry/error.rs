// SPDX-License-Identifier: Apache-2.0
//! Why a registry did not give or take something.
//!
//! [`Failure`] is what happened on the wire, without a place; [`Error`] adds registry and
//! repository, and is what callers get. Text from a server is escaped and cut when it gets in.

use std::fmt;
use std::io;

/// Most characters of a server's own words that are shown.
const QUOTE_MAX_CHARS: usize = 200;

/// What callers tell apart: a pull policy keeps a cached image on all but `Refused`, and a search
/// list goes on after `NotFound`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The registry says that there is no such thing.
    NotFound,
    /// The registry does not let us: no or wrong credentials, or no right.
    Denied,
    /// No answer, a broken connection, an overloaded server: it may work later.
    Unreachable,
    /// We do not want to: blocked, insecure, or tell the registry's operator.
    Refused,
}

/// A failed request to a registry, in one line that names it and says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    kind: Kind,
    registry: String,
    repository: Option<String>,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry '{}'", self.registry)?;
        if let Some(repository) = &self.repository {
            write!(f, ", repository '{repository}'")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Error {
    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The registry, as in the reference.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The registry's error in what a [`super::Blob`] said while it was read.
    pub fn of_read(err: &io::Error) -> Option<&Self> {
        err.get_ref()?.downcast_ref()
    }

    pub(super) fn new(registry: &str, repository: Option<&str>, failure: &Failure) -> Self {
        Self {
            kind: failure.kind,
            registry: registry.to_owned(),
            repository: repository.map(str::to_owned),
            message: failure.message.clone(),
        }
    }
}

/// A failure before it has a place.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(super) fn denied(message: impl Into<String>) -> Self {
        Self::new(Kind::Denied, message)
    }

    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unreachable, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(Kind::Refused, message)
    }
}

/// Text from outside as it may be shown: one line, short, without control characters.
pub(super) fn quote(text: &str) -> String {
    let mut chars = text.trim().chars();
    let mut quoted = String::new();
    for c in chars.by_ref().take(QUOTE_MAX_CHARS) {
        let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            quoted.extend(c.escape_default());
        } else {
            quoted.push(c);
        }
    }
    if chars.next().is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_registry_and_repository() {
        let failure = Failure::not_found("there is no tag '1'; check the name");
        let err = Error::new("quay.io", Some("a/b"), &failure);
        assert_eq!(
            err.to_string(),
            "registry 'quay.io', repository 'a/b': there is no tag '1'; check the name"
        );
        assert_eq!(err.kind(), Kind::NotFound);
        let read = io::Error::other(err);
        assert_eq!(Error::of_read(&read).unwrap().registry(), "quay.io");
    }

    #[test]
    fn r4_text_of_servers_is_short_and_tame() {
        assert_eq!(quote("a\x1b[2J\nb\u{202e}"), "a\\u{1b}[2J\\nb\\u{202e}");
        assert_eq!(
            quote(&"x".repeat(1 << 20)).chars().count(),
            QUOTE_MAX_CHARS + 1
        );
    }
}
