// SPDX-License-Identifier: Apache-2.0
//! Extended headers of POSIX tar (pax(1), "pax Extended Header").
//!
//! Strict where readers are known to differ, because an archive that two readers see differently
//! hides members from one of them (threats T15): one malformed record, a key given twice or
//! a sparse map refuses the whole archive.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};

use crate::sys::dir::Time;

/// What an extended header says about the member that follows it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Pax {
    /// The member's name.
    pub path: Option<Vec<u8>>,
    /// The target of a link.
    pub link: Option<Vec<u8>>,
    /// Bytes of the member's body; overrides the header's field.
    pub size: Option<u64>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Time of last modification.
    pub time: Option<Time>,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// How star(1), Go's archive/tar and libarchive spell an extended attribute.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// The keys that change what is listed of a member.
const MEMBER_KEYS: [&[u8]; 6] = [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"];

/// Parses the body of an `x` header.
pub fn parse_local(body: &[u8]) -> anyhow::Result<Pax> {
    let mut pax = Pax::default();
    for (key, value) in records(body)? {
        // POSIX: an empty value takes back what an earlier header said. Other readers take it for
        // the value.
        if value.is_empty() && MEMBER_KEYS.contains(&key) {
            bail!(
                "an extended header sets '{}' to nothing",
                key.escape_ascii()
            );
        }
        let text = || String::from_utf8_lossy(value).escape_debug().to_string();
        match key {
            b"path" => pax.path = Some(name(value)?),
            b"linkpath" => pax.link = Some(name(value)?),
            b"size" => pax.size = Some(decimal(value).context("field 'size'")?),
            b"uid" => pax.uid = Some(owner(value).context("field 'uid'")?),
            b"gid" => pax.gid = Some(owner(value).context("field 'gid'")?),
            b"mtime" => {
                let time = parse_time(value);
                pax.time = Some(time.ok_or_else(|| anyhow!("field 'mtime' is '{}'", text()))?);
            }
            key if key.starts_with(b"GNU.sparse.") => {
                bail!("sparse members are not supported; layers must not hold them")
            }
            key => {
                if let Some(xattr) = key.strip_prefix(XATTR_PREFIX) {
                    pax.xattrs.insert(xattr.to_owned(), value.to_owned());
                }
            }
        }
    }
    Ok(pax)
}

/// Checks the body of a `g` header, which must say nothing that changes members: readers disagree
/// on whether it counts.
pub fn check_global(body: &[u8]) -> anyhow::Result<()> {
    for (key, _) in records(body)? {
        let harmless = key == b"comment" || key == b"charset" || key == b"hdrcharset";
        if !harmless {
            bail!(
                "a global extended header sets '{}'; only a comment is allowed",
                String::from_utf8_lossy(key).escape_debug()
            );
        }
    }
    Ok(())
}

/// Splits `LENGTH KEY=VALUE\n` records; the length counts itself.
fn records(mut body: &[u8]) -> anyhow::Result<BTreeMap<&[u8], &[u8]>> {
    let malformed = || anyhow!("malformed record in an extended header");
    let mut records = BTreeMap::new();
    while !body.is_empty() {
        let space = body.iter().position(|byte| *byte == b' ');
        let digits = space.and_then(|at| body.get(..at)).ok_or_else(malformed)?;
        if digits.len() > 10 || digits.first() == Some(&b'0') {
            return Err(malformed());
        }
        let length = usize::try_from(decimal(digits).map_err(|_| malformed())?)?;
        let (record, rest) = body.split_at_checked(length).ok_or_else(malformed)?;
        let record = record
            .get(digits.len() + 1..)
            .and_then(|record| record.strip_suffix(b"\n"))
            .ok_or_else(malformed)?;
        let equals = record.iter().position(|byte| *byte == b'=');
        let (key, value) = equals
            .and_then(|at| record.split_at_checked(at))
            .ok_or_else(malformed)?;
        let value = value.strip_prefix(b"=").ok_or_else(malformed)?;
        if key.is_empty() || key.contains(&0) {
            return Err(malformed());
        }
        if records.insert(key, value).is_some() {
            bail!(
                "an extended header sets '{}' twice",
                String::from_utf8_lossy(key).escape_debug()
            );
        }
        body = rest;
    }
    Ok(records)
}

fn name(value: &[u8]) -> anyhow::Result<Vec<u8>> {
    if value.contains(&0) {
        bail!("a name in an extended header holds a NUL");
    }
    Ok(value.to_owned())
}

fn decimal(value: &[u8]) -> anyhow::Result<u64> {
    let text = str::from_utf8(value).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        let shown = String::from_utf8_lossy(value);
        bail!("'{}' is not a decimal number", shown.escape_debug());
    }
    text.parse()
        .map_err(|_| anyhow!("'{text}' is out of range"))
}

fn owner(value: &[u8]) -> anyhow::Result<u32> {
    check_owner(decimal(value)?)
}

/// An owner as chown(2) takes it: 4294967295 would mean "leave unchanged" (threats T16).
pub fn check_owner(id: u64) -> anyhow::Result<u32> {
    match u32::try_from(id) {
        Ok(id) if id != u32::MAX => Ok(id),
        Ok(_) | Err(_) => bail!("{id} is out of range"),
    }
}

/// The range of times that ext4 can store; what others would round is refused here.
pub(super) const TIME_RANGE: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;

/// A time that file systems can store.
pub fn check_time(seconds: i64) -> anyhow::Result<i64> {
    if TIME_RANGE.contains(&seconds) {
        Ok(seconds)
    } else {
        bail!("{seconds} is out of range")
    }
}

/// `SECONDS[.FRACTION]`, perhaps negative.
fn parse_time(value: &[u8]) -> Option<Time> {
    let text = str::from_utf8(value).ok()?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let time = match (negative, nanoseconds) {
        (false, _) => Time {
            seconds,
            nanoseconds,
        },
        (true, 0) => Time {
            seconds: -seconds,
            nanoseconds: 0,
        },
        // The kernel counts nanoseconds forward from a whole second.
        (true, _) => Time {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    };
    check_time(time.seconds).ok()?;
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_strict() {
        let pax = parse_local(b"12 path=a/b\n12 linkpath\n".get(..12).unwrap()).unwrap();
        assert_eq!(pax.path.unwrap(), b"a/b");
        for bad in [
            &b"11 path=a/b\n"[..],
            b"13 path=a/b\n",
            b"012 path=a/b\n",
            b"0 \n",
            b"-1 path=a\n",
            b"99999999999 path=a\n",
            b" path=a\n",
            b"9 path a\n",
            b"5 =a\n",
            b"9 path=a\n9 path=b\n",
            b"10 path=a\0\n",
            b"11 size=-1\n",
            b"9 size=\x31 ",
            b"18 uid=4294967295\n",
            b"13 mtime=NaN\n",
            b"16 mtime=1.2.3\n",
            b"22 GNU.sparse.major=1\n",
            b"8 path=\n",
            b"path",
        ] {
            assert!(parse_local(bad).is_err(), "T15 {:?}", bad.escape_ascii());
        }
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("253402300799", None),
            ("-99999999999", None),
            ("9223372036854775808", None),
            ("", None),
            (".5", None),
            ("nan", None),
            ("+1", None),
        ] {
            let time = parse_time(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
            assert_eq!(time, expected, "{text}");
        }
    }

    #[test]
    fn global_headers_only_comment() {
        assert!(check_global(b"13 comment=ab\n").is_err());
        assert!(check_global(b"14 comment=ab\n").is_ok());
        assert!(check_global(b"10 path=ab\n").is_err());
    }
}
