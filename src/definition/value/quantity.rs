// SPDX-License-Identifier: Apache-2.0
//! Amounts: sizes, durations, parts of CPUs, sets of CPUs.
//!
//! Sizes are written as in Compose and systemd (`512M`, `1g`, powers of 1024), durations as in
//! systemd.time(7) and Compose (`90`, `10s`, `1min 30s`, `1m30s`). Everything is integer
//! arithmetic that refuses to overflow.

use std::str::FromStr;
use std::time::Duration;

use super::Bytes;
use crate::definition::Timeout;
use crate::definition::problem::quote;

/// The longest duration that is accepted: what systemd can count in microseconds is far more, and
/// what people mean is far less. 100 years.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl FromStr for Bytes {
    type Err = String;

    /// A number and a unit: none or `B`, `K`, `M`, `G`, `T`, `P`, in either case, with or without
    /// a following `B` or `iB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "'{}' is not a size, write a number of bytes or one such as 512M or 1G",
                quote(text)
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(bad());
        }
        let unit = unit.to_ascii_lowercase();
        let shift = match unit.as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(bad()),
        };
        let bytes = number.parse::<u64>().ok();
        bytes
            .and_then(|n| n.checked_mul(1 << shift))
            // systemd and the kernel's files take signed numbers in places.
            .filter(|&n| i64::try_from(n).is_ok())
            .map(Self)
            .ok_or_else(|| format!("'{}' is larger than 8 EiB", quote(text)))
    }
}

/// Microseconds of a unit of systemd.time(7); months and years are refused, they have no length.
fn unit_micros(unit: &str) -> Option<u64> {
    match unit {
        "us" | "usec" | "µs" => Some(1),
        "ms" | "msec" => Some(1_000),
        "" | "s" | "sec" | "second" | "seconds" => Some(1_000_000),
        "m" | "min" | "minute" | "minutes" => Some(60_000_000),
        "h" | "hr" | "hour" | "hours" => Some(3_600_000_000),
        "d" | "day" | "days" => Some(86_400_000_000),
        "w" | "week" | "weeks" => Some(604_800_000_000),
        _ => None,
    }
}

/// Parses a duration; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        format!(
            "'{}' is not a duration, write seconds or one such as 500ms, 10s or 1min 30s",
            quote(text)
        )
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits);
        let (fraction, after) = split_fraction(after);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == ' ' || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = unit_micros(unit).ok_or_else(bad)?;
        // A bare number is only a duration when nothing else is said: "1 30s" is a slip.
        if unit.is_empty() && (!after.is_empty() || total != Duration::ZERO) {
            return Err(bad());
        }
        let whole: u64 = whole.parse().map_err(|_| bad())?;
        let micros = whole
            .checked_mul(scale)
            .and_then(|micros| micros.checked_add(fraction_micros(fraction, scale)?))
            .ok_or_else(|| format!("'{}' is longer than 100 years", quote(text)))?;
        total = total.saturating_add(Duration::from_micros(micros));
        rest = after.trim_start();
    }
    if total > DURATION_MAX {
        return Err(format!("'{}' is longer than 100 years", quote(text)));
    }
    Ok(total)
}

/// Splits `.5` off the front.
fn split_fraction(text: &str) -> (&str, &str) {
    match text.strip_prefix('.') {
        Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("", text),
    }
}

fn fraction_micros(digits: &str, scale: u64) -> Option<u64> {
    let digits = digits.get(..digits.len().min(6))?;
    if digits.is_empty() {
        return Some(0);
    }
    let power = 10u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_div(power)
}

/// Parses a duration that something waits, so not zero.
pub fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("0 is not allowed here, write a duration such as 10s".to_owned()),
        duration => Ok(duration),
    }
}

impl FromStr for Timeout {
    type Err = String;

    /// A duration, or `infinity`. Zero is refused: systemd reads it as infinity, Compose as "at
    /// once", and podman #21811 shows what comes of that.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "infinity" {
            return Ok(Self::Infinity);
        }
        match parse_duration(text)? {
            Duration::ZERO => Err(
                "0 is ambiguous: write 1ms for \"at once\" or infinity for \"no limit\"".to_owned(),
            ),
            duration => Ok(Self::After(duration)),
        }
    }
}

/// Parses a number of CPUs such as `1.5` into thousandths.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "'{}' is not a number of CPUs, write one between 0.01 and 100000 such as 1.5",
            quote(text)
        )
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 3 {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
    whole
        .checked_mul(1000)
        .and_then(|n| n.checked_add(thousandths))
        .filter(|milli| (10..=100_000_000).contains(milli))
        .ok_or_else(bad)
}

/// Checks a set of CPUs such as `0-3,7` and returns it without blanks.
pub fn parse_cpuset(text: &str) -> Result<String, String> {
    const CPU_MAX: u32 = 8191; // NR_CPUS of the largest kernels
    let bad = || {
        format!(
            "'{}' is not a set of CPUs, write one such as 0-3,7",
            quote(text)
        )
    };
    let mut parts = Vec::new();
    for part in text.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let cpu = |s: &str| {
            let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| s.parse::<u32>().ok()).flatten()
        };
        let (first, last) = (cpu(first).ok_or_else(bad)?, cpu(last).ok_or_else(bad)?);
        if first > last || last > CPU_MAX {
            return Err(bad());
        }
        parts.push(part);
    }
    if parts.is_empty() {
        return Err(bad());
    }
    Ok(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("512M", 512 << 20),
            ("1g", 1 << 30),
            ("1gb", 1 << 30),
            ("2KiB", 2048),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(expected)), "{text}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "1 G",
            "1GG",
            "0x10",
            "99999999999G",
            "9223372036854775808",
            "٣",
        ] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("90", 90_000),
            ("10s", 10_000),
            ("1min 30s", 90_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "",
            " ",
            "s",
            "1x",
            "-1s",
            "1 30s",
            "10s 5",
            "1M",
            "1y",
            "99999999999999999999s",
            "9999999w",
            ".5s",
            "1..5s",
            "inf",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!("infinity".parse(), Ok(Timeout::Infinity));
        assert!("0".parse::<Timeout>().is_err());
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn cpus() {
        for (text, expected) in [
            ("1", 1000),
            ("1.5", 1500),
            ("0.25", 250),
            ("2.000000", 2000),
        ] {
            assert_eq!(parse_cpus(text), Ok(expected), "{text}");
        }
        for bad in [
            "0",
            "0.001",
            "1.2345",
            "-1",
            "1e3",
            "nan",
            "",
            ".5",
            "1.",
            "999999999",
        ] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_cpuset("0-3, 7"), Ok("0-3,7".to_owned()));
        for bad in ["", ",", "3-1", "a", "0-", "1-2-3", "99999", "+1"] {
            assert!(parse_cpuset(bad).is_err(), "{bad}");
        }
    }
}
