// SPDX-License-Identifier: Apache-2.0
//! `Content-Range` (RFC 9110, 14.4): which part of a blob an answer holds.

/// The bytes of an answer with status 206.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte, from 0.
    pub first: u64,
    /// Last byte.
    pub last: u64,
    /// Bytes of the whole, when the server says.
    pub total: Option<u64>,
}

impl ContentRange {
    /// Parses `bytes FIRST-LAST/TOTAL`, strictly: one range, digits only, in order.
    pub fn parse(field: &str) -> Option<Self> {
        let (range, total) = field.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let range = Self {
            first: number(first)?,
            last: number(last)?,
            total: if total == "*" {
                None
            } else {
                Some(number(total)?)
            },
        };
        let is_inside = range.total.is_none_or(|total| range.last < total);
        (range.first <= range.last && is_inside).then_some(range)
    }

    /// Whether this is everything from `first` to the end of `size` bytes.
    pub fn is_rest(&self, first: u64, size: u64) -> bool {
        self.first == first
            && self.last.checked_add(1) == Some(size)
            && self.total.is_none_or(|total| total == size)
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r13_content_range() {
        for (field, rest) in [
            ("bytes 4-9/10", true),
            ("bytes 4-9/*", true),
            ("bytes 0-9/10", false),
            ("bytes 4-8/10", false),
            ("bytes 4-9/11", false),
        ] {
            assert_eq!(
                ContentRange::parse(field).unwrap().is_rest(4, 10),
                rest,
                "{field}"
            );
        }
        for bad in [
            "",
            "4-9/10",
            "bytes 4-9",
            "bytes 9-4/10",
            "bytes 4-10/10",
            "bytes */10",
            "bytes -4-9/10",
            "bytes +4-9/10",
            "bytes 4-9/10, bytes 4-9/10",
            "items 4-9/10",
            "bytes 4-99999999999999999999/*",
            "bytes 0x4-9/10",
        ] {
            assert_eq!(ContentRange::parse(bad), None, "{bad:?}");
        }
        let end = ContentRange::parse("bytes 0-18446744073709551615/*").unwrap();
        assert!(!end.is_rest(0, u64::MAX));
    }
}
