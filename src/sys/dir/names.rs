// SPDX-License-Identifier: Apache-2.0
//! The names of a large directory in little memory.
//!
//! A name costs its bytes and four more, not an allocation: an image may put a million of them
//! into one directory (threats T21), and what a walk remembers must stay bounded.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{Dir, Result};

/// Names of entries, packed.
#[derive(Debug, Default)]
pub struct Names {
    /// One after the other, each with a NUL behind it.
    bytes: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
}

impl Names {
    /// The names in `dir`, sorted, without `.` and `..`; none when they are more than
    /// `bytes_max` bytes.
    pub fn read_sorted(dir: &Dir, bytes_max: usize) -> Result<Option<Self>> {
        let mut names = Self::default();
        let mut fits = true;
        dir.for_each_name(&mut |name| {
            fits = fits && names.push(name, bytes_max);
            Ok(())
        })?;
        if !fits {
            return Ok(None);
        }
        let Self { bytes, mut starts } = names;
        starts.sort_unstable_by_key(|start| name_at(&bytes, *start));
        Ok(Some(Self { bytes, starts }))
    }

    /// Whether there was room.
    fn push(&mut self, name: &OsStr, bytes_max: usize) -> bool {
        let start = u32::try_from(self.bytes.len());
        let (Ok(start), true) = (start, self.bytes.len() + name.len() < bytes_max) else {
            return false;
        };
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.starts.push(start);
        true
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &OsStr> {
        self.starts
            .iter()
            .map(|start| OsStr::from_bytes(name_at(&self.bytes, *start)))
    }

    /// The same names without those for which `keep` says no, in order.
    pub fn retain(mut self, mut keep: impl FnMut(&OsStr) -> bool) -> Self {
        let bytes = &self.bytes;
        self.starts
            .retain(|start| keep(OsStr::from_bytes(name_at(bytes, *start))));
        let left: usize = self.iter().map(|name| name.len() + 1).sum();
        if left > self.bytes.len() / 2 {
            return self;
        }
        let mut small = Self {
            bytes: Vec::with_capacity(left),
            starts: Vec::with_capacity(self.starts.len()),
        };
        for name in self.iter() {
            small.push(name, usize::MAX);
        }
        small
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The name at `place`.
    pub fn get(&self, place: usize) -> Option<&OsStr> {
        let start = self.starts.get(place)?;
        Some(OsStr::from_bytes(name_at(&self.bytes, *start)))
    }

    /// How many bytes they take, with what they cost besides.
    pub fn cost(&self) -> usize {
        self.bytes.len() + 4 * self.starts.len()
    }
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    let rest = usize::try_from(start).ok().and_then(|at| bytes.get(at..));
    let rest = rest.unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0);
    rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_bounded() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = Dir::open(tmp.path()).unwrap();
        for name in ["b", "a", "\u{e4}", "a.b", "aa"] {
            dir.make_dir(OsStr::new(name)).unwrap();
        }
        let names = Names::read_sorted(&dir, 100).unwrap().unwrap();
        let sorted = ["a", "a.b", "aa", "b", "\u{e4}"];
        assert!(names.iter().eq(sorted.map(OsStr::new)));
        let most = names.retain(|name| name != "a");
        assert!(most.iter().eq(sorted[1..].iter().map(OsStr::new)));
        let some = most.retain(|name| name == "b");
        assert!(some.iter().eq([OsStr::new("b")]));
        assert_eq!(some.get(0), Some(OsStr::new("b")));
        assert_eq!(some.get(1), None);
        assert_eq!(some.cost(), 2 + 4);
        // With a NUL behind each, 14 bytes.
        assert!(Names::read_sorted(&dir, 14).unwrap().is_some());
        assert!(Names::read_sorted(&dir, 13).unwrap().is_none());
    }
}
