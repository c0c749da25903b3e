// SPDX-License-Identifier: Apache-2.0
//! Patterns that choose images by their references, as a shell chooses files.
//!
//! `*` is any text, `/` included, and `?` one character. A pattern is compared with the reference
//! as people write it and in full, each with and without its tag; so `nginx` is every tag of it.

use std::convert::Infallible;
use std::str::FromStr;

use crate::reference::Reference;

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Pattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the reference is one of those that are meant.
    pub fn matches(&self, reference: &Reference) -> bool {
        let (full, familiar) = (reference.to_string(), reference.familiar());
        [full, familiar].iter().any(|name| {
            let untagged = name
                .rsplit_once(':')
                .filter(|(_, tag)| !tag.contains('/'))
                .map(|(path, _)| path);
            is_match(self.0.as_bytes(), name.as_bytes())
                || untagged.is_some_and(|name| is_match(self.0.as_bytes(), name.as_bytes()))
        })
    }
}

/// Matches with one point to return to, the last `*`: linear in memory, never exponential in time.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(wanted) if wanted == byte || *wanted == b'?' => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((pattern_at, text_from)) = star else {
                    return false;
                };
                star = Some((pattern_at, text_from + 1));
                (at, from) = (pattern_at + 1, text_from + 1);
            }
        }
    }
    pattern
        .get(at..)
        .unwrap_or_default()
        .iter()
        .all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let cases = [
            ("nginx", "nginx:1", true),
            ("nginx:1", "nginx:1", true),
            ("nginx:2", "nginx:1", false),
            ("ngin", "nginx:1", false),
            ("ngin?", "nginx:1", true),
            ("docker.io/library/nginx", "nginx:1", true),
            ("docker.io/*", "nginx:1", true),
            ("*", "quay.io/a/b:1", true),
            ("quay.io/*/b:*", "quay.io/a/x/b:1", true),
            ("quay.io/*/c*", "quay.io/a/b:1", false),
            ("localhost:5000/a", "localhost:5000/a:1", true),
            ("localhost", "localhost:5000/a:1", false),
            ("*a*a*a*a*a*a*b", "localhost/aaaaaaaaaaaaaaaaaaaa:1", false),
            ("", "nginx:1", false),
        ];
        for (pattern, reference, expected) in cases {
            let pattern: Pattern = pattern.parse().unwrap();
            let matches = pattern.matches(&reference.parse().unwrap());
            assert_eq!(matches, expected, "{pattern:?} {reference}");
        }
    }
}
