// SPDX-License-Identifier: Apache-2.0
//! Facts as short phrases: "up 3 minutes", "exited (1) 2 hours ago", "512M".

use std::fmt;

use jiff::Timestamp;

use super::terminal::Colour;
use crate::engine::view::run::Ended;
use crate::engine::view::status::{Course, State};

/// What `ps` shows under STATUS.
pub(super) struct Standing<'a> {
    pub(super) state: State,
    pub(super) course: Course,
    /// When the run that goes on was started.
    pub(super) started_at: Option<&'a str>,
    pub(super) last: Option<&'a Ended>,
}

/// One phrase on how a container fares.
pub(super) fn standing(container: &Standing<'_>, now: Timestamp) -> String {
    let up = || match container.started_at {
        Some(time) => format!("up {}", age(time, now)),
        None => "up".to_owned(),
    };
    let last = || match container.last {
        Some(run) => ended(run, now),
        None if container.course == Course::Failed => "failed".to_owned(),
        None => String::new(),
    };
    match container.state {
        State::Paused => format!("{} (paused)", up()),
        State::Running if container.course == Course::Stopping => "stopping".to_owned(),
        State::Running => up(),
        State::Created => "starting".to_owned(),
        State::Stopped => "cleaning up".to_owned(),
        State::Exited | State::Configured if container.course == Course::Restarting => {
            format!("{}, restarting", last())
        }
        State::Exited | State::Configured | State::Unknown => last(),
    }
}

/// How and when a run ended.
pub(super) fn ended(run: &Ended, now: Timestamp) -> String {
    let age = age(&run.finished_at, now);
    let outcome = format!("{} {age} ago", run.outcome);
    match &run.message {
        Some(message) if run.reason == "engine" => format!("{outcome}: {}", one_line(message)),
        Some(_) | None => outcome,
    }
}

/// The first line of a text, shortened to what fits beside other columns.
pub(super) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 100;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= CHARS_MAX {
        return line.to_owned();
    }
    line.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

/// How long ago an RFC 3339 time was, in its largest unit.
pub(super) fn age(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => duration(now.as_second() - time.as_second()),
        Err(_) => "some time".to_owned(),
    }
}

/// A time of ours as the clock on the wall has it.
pub(super) fn local_time(time: &str) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => {
            let local = time.to_zoned(jiff::tz::TimeZone::system());
            local.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => time.to_owned(),
    }
}

fn duration(seconds: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        // Reproducible images are from 1970.
        (365 * 86_400, "year"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    // A clock that was set back is no reason for "-3 seconds".
    let seconds = seconds.max(0);
    // Two of a unit before it is used: "90 minutes" says more than "1 hour".
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    let (length, name) = unit.unwrap_or(&(1, "second"));
    count(seconds / length, name)
}

/// So many of a noun that takes an 's': `1 image`, `2 images`.
pub(super) fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == 1.into() { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// The colour of a state.
pub(super) fn colour(state: State, last: Option<&Ended>) -> Colour {
    match state {
        State::Running => Colour::Good,
        State::Created | State::Stopped | State::Paused => Colour::Between,
        State::Unknown => Colour::Bad,
        State::Configured => Colour::Dim,
        State::Exited => match last {
            Some(entry) if entry.service_result.as_deref() != Some("success") => Colour::Bad,
            Some(_) | None => Colour::Plain,
        },
    }
}

/// Bytes in the largest binary unit that keeps one digit before the point: `1.5G`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ];
    for (size, unit) in UNITS {
        if count >= size {
            let tenths = count / (size / 10).max(1);
            return match tenths % 10 {
                0 => format!("{}{unit}", count / size),
                tenth => format!("{}.{tenth}{unit}", tenths / 10),
            };
        }
    }
    format!("{count}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (-5, "0 seconds"),
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7199, "119 minutes"),
            (7200, "2 hours"),
            (3 * 86_400, "3 days"),
            (20 * 86_400, "2 weeks"),
            (729 * 86_400, "104 weeks"),
            (730 * 86_400, "2 years"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(duration(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (512 << 20, "512M"),
            (3 << 29, "1.5G"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }
}
