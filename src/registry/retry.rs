// SPDX-License-Identifier: Apache-2.0
//! Trying again: what may pass, how long to wait, and what a server may ask for (threats R14).

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::error::Failure;
use super::limits::Limits;

/// Why one try was not enough.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It would happen again.
    Final(Failure),
    /// It may pass; the server may have said when.
    Passing {
        failure: Failure,
        retry_after: Option<Duration>,
    },
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl Trouble {
    pub(super) fn passing(failure: Failure) -> Self {
        Self::Passing {
            failure,
            retry_after: None,
        }
    }
}

/// Runs `attempt` until it succeeds, fails for good, or was tried often enough.
pub(super) fn persist<T>(
    limits: &Limits,
    tries: u32,
    mut attempt: impl FnMut() -> Result<T, Trouble>,
) -> Result<T, Failure> {
    let mut tried = 0;
    loop {
        tried += 1;
        let (failure, retry_after) = match attempt() {
            Ok(value) => return Ok(value),
            Err(Trouble::Final(failure)) => return Err(failure),
            Err(Trouble::Passing {
                failure,
                retry_after,
            }) => (failure, retry_after),
        };
        if let Some(asked) = retry_after.filter(|asked| *asked > limits.retry_after_max) {
            let message = format!(
                "{}; it asks to be left alone for {} s: try again then",
                failure.message,
                asked.as_secs()
            );
            return Err(Failure::new(failure.kind, message));
        }
        if tried >= tries {
            let message = format!("{}{}", failure.message, shown_tries(tried));
            return Err(Failure::new(failure.kind, message));
        }
        let wait = retry_after.unwrap_or_else(|| backoff(limits, tried));
        tracing::debug!("{}; trying again in {wait:?}", failure.message);
        pause(wait);
    }
}

/// How many tries there were, to end a message with; nothing is said of a single one.
pub(super) fn shown_tries(tries: u32) -> String {
    match tries {
        1 => String::new(),
        more => format!(" ({more} tries)"),
    }
}

/// The wait after the try of this number: doubled each time, less up to half of it by chance, so
/// that many machines that were cut off together do not come back together.
pub(super) fn backoff(limits: &Limits, tried: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(tried.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let full = limits
        .backoff
        .saturating_mul(doubled)
        .min(limits.backoff_max);
    full.mul_f64(1.0 - chance() / 2.0)
}

/// Between 0 and 1. The seed that std gives each map is random, and nothing here is secret.
fn chance() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0_u8) >> 40;
    f64::from(u32::try_from(random).unwrap_or(0)) / f64::from(1_u32 << 24)
}

/// Lets this thread alone wait, on a condition that nobody signals: there is no event to wait for.
pub(super) fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    let (lock, condition) = (Mutex::new(()), Condvar::new());
    let mut held = lock.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        held = match condition.wait_timeout(held, left) {
            Ok((held, _)) => held,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// A `Retry-After` field: seconds, or a date of RFC 9110. What is neither says nothing.
pub fn parse_retry_after(field: &str, now: SystemTime) -> Option<Duration> {
    let field = field.trim();
    if !field.is_empty() && field.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more seconds than we would wait.
        return Some(Duration::from_secs(field.parse().unwrap_or(u64::MAX)));
    }
    if field.len() > 64 {
        return None;
    }
    let date = jiff::fmt::rfc2822::parse(field).ok()?;
    let then = SystemTime::from(date.timestamp());
    Some(then.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_retry_after() {
        let epoch = SystemTime::UNIX_EPOCH;
        for (field, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("1000000000", Some(1_000_000_000)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Thu, 01 Jan 1970 00:01:00 GMT", Some(60)),
            ("Wed, 31 Dec 1969 23:59:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let parsed = parse_retry_after(field, epoch);
            assert_eq!(parsed.map(|d| d.as_secs()), expected, "{field:?}");
        }
    }

    #[test]
    fn r14_waits_grow_to_a_bound() {
        let limits = Limits::default();
        for (tried, full) in [(1, 500), (2, 1000), (5, 8000), (7, 30_000), (99, 30_000)] {
            let wait = backoff(&limits, tried).as_millis();
            assert!((full / 2..=full).contains(&wait), "{tried}: {wait}");
        }
    }
}
