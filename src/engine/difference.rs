// SPDX-License-Identifier: Apache-2.0
//! How a path differs between two trees, be they images or a container and its image.

use crate::storage::{changes, merged};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference {
    /// It is new.
    Added,
    /// It was there and is not as it was.
    Changed,
    /// It was there and is removed, and what was below it too.
    Deleted,
}

impl Difference {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }

    /// In a letter.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

impl From<merged::Kind> for Difference {
    fn from(kind: merged::Kind) -> Self {
        match kind {
            merged::Kind::Added => Self::Added,
            merged::Kind::Changed => Self::Changed,
            merged::Kind::Deleted => Self::Deleted,
        }
    }
}

impl From<changes::Difference> for Difference {
    fn from(difference: changes::Difference) -> Self {
        match difference {
            changes::Difference::Added => Self::Added,
            changes::Difference::Changed => Self::Changed,
            changes::Difference::Deleted => Self::Deleted,
        }
    }
}
