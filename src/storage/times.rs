// SPDX-License-Identifier: Apache-2.0
//! Times of directories, remembered until a layer is whole.
//!
//! Each entry made in a directory changes the directory's time, so times are set at the end. A
//! layer may hold a million directories: one costs sixteen bytes here (hostile-inputs T21).

use super::pax::TIME_RANGE;
use crate::sys::dir::Time;

/// Bits of the nanoseconds below the seconds.
const NANOSECOND_BITS: u32 = 30;

/// The times of directories by inode.
#[derive(Debug, Default)]
pub struct Times {
    /// Inode and packed time; of equal inodes the last one counts.
    list: Vec<(u64, u64)>,
}

impl Times {
    /// Remembers the time of a directory; a later one of the same directory replaces it.
    pub fn insert(&mut self, inode: u64, time: Time) {
        match self.list.last_mut() {
            Some(last) if last.0 == inode => last.1 = pack(time),
            _ => self.list.push((inode, pack(time))),
        }
    }

    /// Makes [`Times::get`] possible.
    pub fn sort(&mut self) {
        // Stable: what was inserted last stays last of its inode.
        self.list.sort_by_key(|(inode, _)| *inode);
    }

    /// The time of a directory, if any was inserted, after [`Times::sort`].
    pub fn get(&self, inode: u64) -> Option<Time> {
        let end = self.list.partition_point(|(other, _)| *other <= inode);
        let (found, packed) = self.list.get(end.checked_sub(1)?)?;
        (*found == inode).then(|| unpack(*packed))
    }
}

/// The range of seconds has 34 bits.
fn pack(time: Time) -> u64 {
    let seconds = time.seconds.saturating_sub(*TIME_RANGE.start());
    let seconds = u64::try_from(seconds).unwrap_or(0);
    seconds << NANOSECOND_BITS | u64::from(time.nanoseconds)
}

fn unpack(packed: u64) -> Time {
    let seconds = i64::try_from(packed >> NANOSECOND_BITS).unwrap_or(0);
    let nanoseconds = packed & ((1 << NANOSECOND_BITS) - 1);
    Time {
        seconds: seconds + TIME_RANGE.start(),
        nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_time_of_an_inode_counts() {
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds,
        };
        let extremes = [
            time(*TIME_RANGE.start(), 0),
            time(*TIME_RANGE.end(), 999_999_999),
            time(0, 1),
            time(-1, 5),
        ];
        let mut times = Times::default();
        for (inode, time) in (10..).zip(extremes) {
            times.insert(inode, Time::default());
            times.insert(inode, time);
        }
        times.insert(10, time(7, 7));
        times.sort();
        assert_eq!(times.get(10), Some(time(7, 7)));
        for (inode, time) in (10..).zip(extremes).skip(1) {
            assert_eq!(times.get(inode), Some(time));
        }
        assert_eq!(times.get(9), None);
        assert_eq!(times.get(14), None);
    }
}
