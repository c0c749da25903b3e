// SPDX-License-Identifier: Apache-2.0
//! Why a run ended: systemd's verdict and the kernel's counters → a reason.
//!
//! Pure. systemd saw the payload's exit itself, so nothing is guessed: `$EXIT_CODE` and
//! `$EXIT_STATUS` (systemd.exec(5)) are the payload's as soon as systemd has adopted it, which the
//! run-time record says, and wharf's own before. Out of memory is what memory.events says, never
//! a guess from 137.

use crate::records::history::Reason;

/// What `ExecStopPost=` is told, and what else is known when a run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// `$SERVICE_RESULT`.
    pub service_result: Option<String>,
    /// `$EXIT_CODE`: `exited`, `killed` or `dumped`.
    pub exit_code: Option<String>,
    /// `$EXIT_STATUS`: a number, or a signal's name without `SIG`.
    pub exit_status: Option<String>,
    /// Whether systemd had adopted the payload.
    pub adopted: Adopted,
    /// What `start` said when it gave up.
    pub failure: Option<String>,
    /// Processes of the unit that the kernel killed for memory during this run.
    pub oom_kills: u64,
}

/// Whose exit the unit's exit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adopted {
    /// The payload's.
    Payload,
    /// wharf's own: the container was never handed over.
    #[default]
    Engine,
}

/// Why and how a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Why.
    pub reason: Reason,
    /// Exit code of the payload.
    pub code: Option<i32>,
    /// Signal that ended the payload, without `SIG`.
    pub signal: Option<String>,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// More for people.
    pub message: Option<String>,
}

/// Judges an ended run.
pub fn judge(verdict: &Verdict) -> Outcome {
    match verdict.adopted {
        Adopted::Engine if is_no_status_of_ours(verdict) => payload_outcome(verdict),
        Adopted::Engine => engine_outcome(verdict),
        Adopted::Payload => payload_outcome(verdict),
    }
}

/// Whether the exit status is none that `wharf start` has: 1, 2, 101 and 125 to 127, and 0 once the
/// container has been handed over. Then it is the payload's, and the record that would say so has
/// been lost.
fn is_no_status_of_ours(verdict: &Verdict) -> bool {
    let status = verdict.exit_status.as_deref();
    verdict.exit_code.as_deref() == Some("exited")
        && verdict.failure.is_none()
        && verdict.service_result.as_deref() != Some("timeout")
        && !matches!(status, Some("1" | "2" | "101" | "125" | "126" | "127"))
}

fn engine_outcome(verdict: &Verdict) -> Outcome {
    let ended = match (verdict.exit_code.as_deref(), verdict.exit_status.as_deref()) {
        (Some("exited"), Some(status)) => format!("'wharf start' ended with exit status {status}"),
        (Some(_), Some(signal)) => format!("'wharf start' was ended by SIG{signal}"),
        _ => "'wharf start' did not run to its end".to_owned(),
    };
    let reason = match (verdict.failure.is_some(), verdict.service_result.as_deref()) {
        (false, Some("timeout")) => Reason::Timeout,
        _ => Reason::Engine,
    };
    Outcome {
        reason,
        code: None,
        signal: None,
        core_dumped: false,
        message: Some(verdict.failure.clone().unwrap_or(ended)),
    }
}

fn payload_outcome(verdict: &Verdict) -> Outcome {
    let status = verdict.exit_status.as_deref();
    let (code, signal) = match verdict.exit_code.as_deref() {
        Some("exited") => (status.and_then(|text| text.parse().ok()), None),
        Some("killed" | "dumped") => (None, status.map(str::to_owned)),
        _ => (None, None),
    };
    let killed = signal.as_deref() == Some("KILL");
    let reason = match verdict.service_result.as_deref() {
        _ if verdict.failure.is_some() => Reason::Engine,
        Some("oom-kill") => Reason::Oom,
        Some("watchdog") => Reason::Watchdog,
        Some("timeout") => Reason::Timeout,
        _ if verdict.oom_kills > 0 && killed => Reason::Oom,
        _ if signal.is_some() => Reason::Signal,
        _ => Reason::Exited,
    };
    Outcome {
        reason,
        code,
        signal,
        core_dumped: verdict.exit_code.as_deref() == Some("dumped"),
        message: verdict.failure.clone(),
    }
}

impl Outcome {
    /// One line for people, such as `exited with code 3` or `killed by SIGKILL, out of memory`.
    pub fn describe(&self) -> String {
        let how = match (self.code, &self.signal) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) if self.core_dumped => {
                format!("killed by SIG{signal}, core dumped")
            }
            (None, Some(signal)) => format!("killed by SIG{signal}"),
            (None, None) => "ended".to_owned(),
        };
        let message = self.message.as_deref().unwrap_or("the engine stopped it");
        match self.reason {
            Reason::Exited | Reason::Signal => how,
            Reason::Oom => format!("{how}, out of memory"),
            Reason::Health => format!("{how}, unhealthy"),
            Reason::Watchdog => format!("{how}, watchdog"),
            Reason::Timeout => format!("{how}, time limit reached"),
            Reason::Engine => format!("not started: {message}"),
            Reason::Dependency => format!("not started, a dependency is missing: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Adopted::{Engine, Payload};
    use super::*;

    fn verdict(text: &str, adopted: Adopted, oom_kills: u64) -> Verdict {
        let mut words = text.split(' ').map(|w| Some(w.to_owned()));
        Verdict {
            service_result: words.next().flatten(),
            exit_code: words.next().flatten(),
            exit_status: words.next().flatten(),
            adopted,
            failure: None,
            oom_kills,
        }
    }

    /// What systemd says, whose exit it is, OOM kills → reason and description.
    #[rustfmt::skip]
    const TABLE: [(&str, Adopted, u64, Reason, &str); 13] = [
        ("success exited 0", Payload, 0, Reason::Exited, "exited with code 0"),
        ("exit-code exited 137", Payload, 0, Reason::Exited, "exited with code 137"),
        ("signal killed KILL", Payload, 0, Reason::Signal, "killed by SIGKILL"),
        ("signal killed KILL", Payload, 1, Reason::Oom, "killed by SIGKILL, out of memory"),
        ("oom-kill killed KILL", Payload, 1, Reason::Oom, "killed by SIGKILL, out of memory"),
        // A child was killed, the container went on and ended by itself.
        ("success exited 0", Payload, 1, Reason::Exited, "exited with code 0"),
        ("core-dump dumped SEGV", Payload, 0, Reason::Signal, "killed by SIGSEGV, core dumped"),
        ("timeout killed KILL", Payload, 0, Reason::Timeout, "killed by SIGKILL, time limit reached"),
        ("watchdog killed ABRT", Payload, 0, Reason::Watchdog, "killed by SIGABRT, watchdog"),
        ("signal killed KILL", Engine, 0, Reason::Engine, "not started: 'wharf start' was ended by SIGKILL"),
        ("exit-code exited 125", Engine, 0, Reason::Engine, "not started: 'wharf start' ended with exit status 125"),
        ("exit-code exited 7", Engine, 0, Reason::Exited, "exited with code 7"),
        ("timeout killed TERM", Engine, 0, Reason::Timeout, "ended, time limit reached"),
    ];

    #[test]
    fn verdicts() {
        for (text, adopted, oom, reason, described) in TABLE {
            let outcome = judge(&verdict(text, adopted, oom));
            assert_eq!(
                (outcome.reason, outcome.describe().as_str()),
                (reason, described),
                "{text}"
            );
        }
        let mut failed = verdict("exit-code exited 125", Engine, 0);
        failed.failure = Some("image 'x' is not there".to_owned());
        assert_eq!(
            judge(&failed).describe(),
            "not started: image 'x' is not there"
        );
    }
}
