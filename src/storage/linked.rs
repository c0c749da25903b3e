// SPDX-License-Identifier: Apache-2.0
//! Which files of a walk are one, as far as the memory for it goes.
//!
//! A container can make any number of files with two names each. A name is forgotten when the last
//! one was seen, and of the others only so many bytes are remembered; the rest are files of their own.

use std::collections::HashMap;

use crate::sys::dir::{Entry, Kind};

/// Most bytes of names that are remembered.
const BYTES_MAX: usize = 32 << 20;

/// What a name costs besides its bytes.
const NAME_COST: usize = 64;

/// What is known of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is a file of its own, or the first name of one.
    First,
    /// It is the same as this one.
    Again(Vec<u8>),
    /// It may be the same as one that could not be remembered.
    Unknown,
}

/// First names of files with several.
#[derive(Debug, Default)]
pub struct Linked {
    /// By inode, with how many names are to come.
    first: HashMap<(u64, u64), (Vec<u8>, u64)>,
    bytes: usize,
}

impl Linked {
    /// Looks an entry up and remembers it.
    pub fn see(&mut self, name: &[u8], entry: Entry) -> Seen {
        if entry.links < 2 || entry.kind == Kind::Directory {
            return Seen::First;
        }
        if let Some((first, left)) = self.first.get_mut(&entry.inode) {
            let name = first.clone();
            *left -= 1;
            if *left == 0 {
                self.bytes -= first.len() + NAME_COST;
                self.first.remove(&entry.inode);
            }
            return Seen::Again(name);
        }
        let cost = name.len() + NAME_COST;
        if self.bytes + cost > BYTES_MAX {
            return Seen::Unknown;
        }
        self.bytes += cost;
        self.first
            .insert(entry.inode, (name.to_vec(), entry.links - 1));
        Seen::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::dir::Time;

    fn entry(inode: u64, links: u64) -> Entry {
        Entry {
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            device: (0, 0),
            inode: (1, inode),
            links,
            time: Time::default(),
        }
    }

    #[test]
    fn t21_names_are_forgotten_in_time() {
        let mut linked = Linked::default();
        assert_eq!(linked.see(b"alone", entry(1, 1)), Seen::First);
        for round in ["a", "b"] {
            assert_eq!(linked.see(round.as_bytes(), entry(2, 3)), Seen::First);
            for _ in 0..2 {
                let again = Seen::Again(round.as_bytes().to_vec());
                assert_eq!(linked.see(b"x", entry(2, 3)), again);
            }
        }
        assert_eq!((linked.bytes, linked.first.len()), (0, 0));
        let long = [b'x'; 4000];
        let most = (BYTES_MAX / (4000 + NAME_COST)) as u64;
        for inode in 0..most {
            assert_eq!(linked.see(&long, entry(inode, 2)), Seen::First);
        }
        assert_eq!(linked.see(&long, entry(most, 2)), Seen::Unknown);
        assert_eq!(linked.see(b"y", entry(0, 2)), Seen::Again(long.to_vec()));
        assert_eq!(linked.see(&long, entry(most, 2)), Seen::First);
    }
}
