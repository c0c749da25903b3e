// SPDX-License-Identifier: Apache-2.0
//! `WWW-Authenticate` (RFC 9110, 11.6.1): what a registry wants to see.
//!
//! Strict and bounded: a field that does not follow the grammar is refused as a whole, since a
//! guess about where one challenge ends decides where a password goes.

use std::fmt;

/// Longest field that is parsed.
const FIELD_BYTES_MAX: usize = 8 << 10;
/// Most challenges in one field, and most parameters of one.
const ITEMS_MAX: usize = 32;

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case, such as `bearer`.
    pub scheme: String,
    /// Names in lower case, with their values.
    parameters: Vec<(String, String)>,
}

/// The field is not what RFC 9110 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct ChallengeError;

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it sent a WWW-Authenticate field that cannot be understood")
    }
}

impl Challenge {
    /// Parses a field's value.
    ///
    /// # Errors
    ///
    /// Anything outside the grammar, and parameters given twice.
    pub fn parse_all(field: &str) -> Result<Vec<Self>, ChallengeError> {
        if field.len() > FIELD_BYTES_MAX {
            return Err(ChallengeError);
        }
        let mut parser = Parser { rest: field };
        let mut found: Vec<Self> = Vec::new();
        loop {
            parser.skip_separators();
            if parser.rest.is_empty() {
                return Ok(found);
            }
            let word = parser.token()?;
            let had_space = parser.skip_space();
            if parser.rest.starts_with('=') {
                // A parameter of the challenge before.
                let challenge = found.last_mut().ok_or(ChallengeError)?;
                challenge.add(word, parser.value()?)?;
                parser.end_of_item()?;
                continue;
            }
            if found.len() >= ITEMS_MAX {
                return Err(ChallengeError);
            }
            let mut challenge = Self {
                scheme: word.to_ascii_lowercase(),
                parameters: Vec::new(),
            };
            // What follows a scheme and a space is its first parameter, token68, or the end.
            if had_space && !parser.rest.is_empty() && !parser.rest.starts_with(',') {
                parser.first_parameter(&mut challenge)?;
                parser.end_of_item()?;
            } else {
                parser.end_of_item()?;
            }
            found.push(challenge);
        }
    }

    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), ChallengeError> {
        let name = name.to_ascii_lowercase();
        if self.parameters.len() >= ITEMS_MAX || self.parameter(&name).is_some() {
            return Err(ChallengeError);
        }
        self.parameters.push((name, value));
        Ok(())
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl<'t> Parser<'t> {
    fn skip_space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches([' ', '\t']);
        self.rest.len() < before
    }

    fn skip_separators(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', ',']);
    }

    fn take(&mut self, is_inside: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !is_inside(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn token(&mut self) -> Result<&'t str, ChallengeError> {
        let token = self.take(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c));
        if token.is_empty() {
            return Err(ChallengeError);
        }
        Ok(token)
    }

    /// `=` and a token or a quoted string.
    fn value(&mut self) -> Result<String, ChallengeError> {
        self.rest = self.rest.strip_prefix('=').ok_or(ChallengeError)?;
        self.skip_space();
        let Some(quoted) = self.rest.strip_prefix('"') else {
            return Ok(self.token()?.to_owned());
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = quoted.get(at + 1..).unwrap_or_default();
                    return Ok(value);
                }
                '\\' => value.push(chars.next().ok_or(ChallengeError)?.1),
                c if c.is_control() && c != '\t' => return Err(ChallengeError),
                c => value.push(c),
            }
        }
        Err(ChallengeError)
    }

    /// The first parameter, or token68, which nobody we know of sends and which is passed over.
    fn first_parameter(&mut self, challenge: &mut Challenge) -> Result<(), ChallengeError> {
        let start = self.rest;
        let name = self.token();
        self.skip_space();
        let is_parameter = name.is_ok()
            && self
                .rest
                .strip_prefix('=')
                .is_some_and(|rest| !rest.trim_start().is_empty() && !rest.starts_with(['=', ',']));
        if is_parameter {
            let value = self.value()?;
            return challenge.add(name?, value);
        }
        self.rest = start;
        let token68 = self.take(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
        if token68.is_empty() {
            return Err(ChallengeError);
        }
        Ok(())
    }

    fn end_of_item(&mut self) -> Result<(), ChallengeError> {
        self.skip_space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            Ok(())
        } else {
            Err(ChallengeError)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str) -> String {
        let challenges = Challenge::parse_all(field).unwrap();
        let one = |c: &Challenge| {
            let parameters = c.parameters.iter().map(|(k, v)| format!("{k}={v}"));
            format!("{}[{}]", c.scheme, parameters.collect::<Vec<_>>().join("|"))
        };
        challenges.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fields_of_real_registries() {
        for (field, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull""#,
                "bearer[realm=https://auth.docker.io/token|service=registry.docker.io|scope=repository:a/b:pull]",
            ),
            ("Basic realm=\"x\"", "basic[realm=x]"),
            ("Basic", "basic[]"),
            ("basic , Bearer realm=a", "basic[] bearer[realm=a]"),
            (
                r#"Basic realm="a, b", Bearer realm="c" , service = "d\"e""#,
                r#"basic[realm=a, b] bearer[realm=c|service=d"e]"#,
            ),
            (
                "Negotiate YWJj==, Basic realm=x",
                "negotiate[] basic[realm=x]",
            ),
            ("", ""),
        ] {
            assert_eq!(shown(field), expected, "{field}");
        }
    }

    #[test]
    fn bad_fields() {
        let long = format!("Basic realm=\"{}\"", "x".repeat(9000));
        let many = "a=1,".repeat(40);
        for field in [
            "realm=x",
            "Bearer realm=\"x",
            "Bearer realm=\"x\\",
            "Bearer realm=x realm=y",
            "Bearer realm=x, realm=y",
            "Bearer =x",
            "\"Bearer\"",
            "Bearer realm=\"a\u{1}b\"",
            "Bearer é=x",
            &long,
            &format!("Bearer {many}"),
            &"a,".repeat(40),
        ] {
            assert!(Challenge::parse_all(field).is_err(), "R10 {field:?}");
        }
    }
}
