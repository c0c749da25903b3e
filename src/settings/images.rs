// SPDX-License-Identifier: Apache-2.0
//! `[images]` of wharf.toml(5): how much room images may take, and which ones stay.

use std::time::Duration;

use serde::Deserialize;

use crate::definition::value::Bytes;
use crate::definition::value::quantity::parse_duration;

/// The table `[images]`. What is not set is a default of the methods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// `budget`: what the store may take. Defaults to what leaves a tenth of its file system free.
    pub budget: Option<Budget>,
    /// `high_water`: of the budget; more than that starts a collection. Defaults to 100%.
    pub high_water: Option<Percent>,
    /// `low_water`: of the budget; a collection ends there. Defaults to 80%.
    pub low_water: Option<Percent>,
    /// `keep`: patterns of references that are never collected. Defaults to none.
    pub keep: Option<Vec<String>>,
    /// `min_age`: images that were used more recently are never collected. Defaults to 24h.
    pub min_age: Option<Age>,
}

/// A number of bytes, or a part of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Budget {
    /// Bytes.
    Bytes(u64),
    /// Of the size of the file system that holds the store.
    Percent(Percent),
}

/// 1 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Percent(u8);

/// A duration as in systemd.time(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Age(pub Duration);

/// When a collection begins and where it ends, in bytes of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// What the store may take.
    pub budget: u64,
    /// A store of more bytes is collected …
    pub high: u64,
    /// … until it has no more than these.
    pub low: u64,
}

impl Images {
    /// The marks for a store of `stored` bytes on a file system of `total` bytes with `free` ones
    /// left.
    pub fn marks(&self, stored: u64, free: u64, total: u64) -> Marks {
        let budget = match self.budget {
            Some(Budget::Bytes(bytes)) => bytes,
            Some(Budget::Percent(percent)) => percent.of(total),
            None => stored.saturating_add(free).saturating_sub(total / 10),
        };
        let high = self.high_water.unwrap_or(Percent(100));
        let low = self.low_water.unwrap_or(Percent(80)).min(high);
        Marks {
            budget,
            high: high.of(budget),
            low: low.of(budget),
        }
    }

    /// How long an image that nothing needs stays after its last use.
    pub fn min_age(&self) -> Duration {
        let Age(age) = self.min_age.unwrap_or(Age(Duration::from_secs(24 * 3600)));
        age
    }

    /// What this file says, and where it is silent what `earlier` ones said.
    pub(super) fn or(self, earlier: Self) -> Self {
        Self {
            budget: self.budget.or(earlier.budget),
            high_water: self.high_water.or(earlier.high_water),
            low_water: self.low_water.or(earlier.low_water),
            keep: self.keep.or(earlier.keep),
            min_age: self.min_age.or(earlier.min_age),
        }
    }
}

impl Percent {
    /// So much of `whole`.
    pub fn of(self, whole: u64) -> u64 {
        let part = u128::from(whole) * u128::from(self.0) / 100;
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl TryFrom<String> for Percent {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|text| text.parse().ok());
        number
            .filter(|number| (1..=100).contains(number))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a percentage, write one such as \"80%\""))
    }
}

impl TryFrom<String> for Budget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.ends_with('%') {
            return Percent::try_from(text).map(Self::Percent);
        }
        let bytes: Bytes = text.parse()?;
        Ok(Self::Bytes(bytes.0))
    }
}

impl TryFrom<String> for Age {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        parse_duration(&text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn marks(text: &str) -> Result<Marks, toml::de::Error> {
        // 10 GiB of images on a disk of 100 GiB with 20 GiB free.
        let images: Images = toml::from_str(text)?;
        Ok(images.marks(10 * GIB, 20 * GIB, 100 * GIB))
    }

    #[test]
    fn marks_of_settings() {
        for (text, budget, high, low) in [
            ("", 20, 20, 16),
            ("budget = \"50G\"", 50, 50, 40),
            (
                "budget = \"50%\"\nhigh_water = \"90%\"\nlow_water = \"50%\"",
                50,
                45,
                25,
            ),
            ("budget = \"10G\"\nhigh_water = \"50%\"", 10, 5, 5),
        ] {
            let (budget, high, low) = (budget * GIB, high * GIB, low * GIB);
            assert_eq!(marks(text).unwrap(), Marks { budget, high, low }, "{text}");
        }
        // A full disk: nothing is within the budget.
        let none = Images::default().marks(10, 0, 1000);
        assert_eq!((none.high, none.low), (0, 0));
    }

    #[test]
    fn slips() {
        for text in [
            "budget = \"x\"",
            "budget = \"101%\"",
            "high_water = \"0%\"",
            "low_water = \"80\"",
            "min_age = \"-1\"",
            "keep = \"x\"",
            "kep = []",
        ] {
            assert!(marks(text).is_err(), "{text}");
        }
    }
}
