// SPDX-License-Identifier: Apache-2.0
//! Conditions that choose images: `--filter KEY=VALUE` of `image ls` and `image prune`.

use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::definition::value::quantity::parse_duration;
use crate::image::remove::Named;
use crate::image::store::Store;
use crate::reference::pattern::Pattern;

/// One condition; an image has to meet all that are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// It has no name, or has one.
    Dangling(bool),
    /// It was not used since.
    Until(SystemTime),
    /// It has the label, with the value if there is one.
    Label(String, Option<String>),
    /// One of its names matches.
    Reference(Pattern),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("it must be KEY=VALUE, such as until=24h")?;
        match (key, value) {
            ("dangling", "true") => Ok(Self::Dangling(true)),
            ("dangling", "false") => Ok(Self::Dangling(false)),
            ("dangling", _) => Err("'dangling' is true or false".to_owned()),
            ("until", time) => parse_time(time).map(Self::Until),
            ("label", label) => {
                let (name, value) = match label.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (label, None),
                };
                Ok(Self::Label(name.to_owned(), value))
            }
            ("reference", pattern) => {
                let Ok(pattern) = pattern.parse();
                Ok(Self::Reference(pattern))
            }
            (other, _) => Err(format!(
                "there is no filter '{}'; there are dangling, until, label and reference",
                other.escape_debug()
            )),
        }
    }
}

/// A point in time, or how long ago it was.
fn parse_time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(SystemTime::from(time));
    }
    let age: Duration = parse_duration(text).map_err(|_| {
        format!(
            "'{}' is neither a duration such as 24h nor a time such as 2026-01-01T00:00:00Z",
            text.escape_debug()
        )
    })?;
    Ok(SystemTime::now()
        .checked_sub(age)
        .unwrap_or(SystemTime::UNIX_EPOCH))
}

impl Filter {
    /// Whether the image meets the condition.
    pub(super) fn admits(&self, store: &Store, image: &Named) -> bool {
        match self {
            Self::Dangling(dangling) => image.references.is_empty() == *dangling,
            Self::Until(time) => image.used < *time,
            Self::Label(name, value) => {
                let Ok(documents) = store.documents(&image.digest) else {
                    return false;
                };
                let found = documents.config.config.labels.get(name);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
            Self::Reference(pattern) => image.references.iter().any(|name| pattern.matches(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let parse = |text: &str| text.parse::<Filter>();
        assert_eq!(parse("dangling=true"), Ok(Filter::Dangling(true)));
        assert_eq!(
            parse("until=1970-01-01T00:01:00Z"),
            Ok(Filter::Until(
                SystemTime::UNIX_EPOCH + Duration::from_secs(60)
            ))
        );
        assert!(matches!(parse("until=24h"), Ok(Filter::Until(_))));
        assert_eq!(
            parse("label=a=b=c"),
            Ok(Filter::Label("a".to_owned(), Some("b=c".to_owned())))
        );
        for bad in ["", "dangling", "dangling=1", "until=x", "colour=red"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
