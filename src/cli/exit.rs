// SPDX-License-Identifier: Apache-2.0
//! The exit statuses of wharf(1), all of them, and which errors have one of their own.
//!
//! 3 to 5 are those of systemctl(1) for the same situations; 125 to 127 are those of every
//! container engine when the payload never ran.

use std::process::ExitCode;

use crate::engine::refusal::{self, Kind};

/// How wharf(1) ends. The table in its man page lists the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Success,
    /// 1: not done, for a reason printed on standard error.
    Failure,
    /// 2: the command line, or a definition checked by it, is wrong.
    Usage,
    /// 3: `status` of a container that is not running.
    NotRunning,
    /// 4: not permitted.
    NotPermitted,
    /// 5: there is no such container.
    NoSuchContainer,
    /// 6: what was to be pulled or loaded is no image that can be run.
    NotRunnable,
    /// 125: wharf itself could not run the payload.
    Engine,
    /// 126: the payload's command cannot be executed.
    NotExecutable,
    /// 127: the payload's command was not found.
    NotFound,
    /// The payload's own exit code, or 128 and the number of the signal that ended it.
    Payload(u8),
}

impl ExitStatus {
    /// The number the parent process sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotRunning => 3,
            Self::NotPermitted => 4,
            Self::NoSuchContainer => 5,
            Self::NotRunnable => 6,
            Self::Engine => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Payload(code) => code,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// An error with an exit status of its own, wherever it is in a chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Exit {
    /// The status.
    pub status: ExitStatus,
    /// The fact, and what to do next.
    pub message: String,
}

impl Exit {
    /// A wrong command line that the parser could not see.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            status: ExitStatus::Usage,
            message: message.into(),
        }
    }
}

/// The exit status for an error that reached `main`.
pub fn status_of(err: &anyhow::Error) -> ExitStatus {
    if let Some(exit) = err.chain().find_map(|cause| cause.downcast_ref::<Exit>()) {
        return exit.status;
    }
    match refusal::kind_of(err) {
        Kind::Misuse => ExitStatus::Usage,
        Kind::NoSuchContainer => ExitStatus::NoSuchContainer,
        Kind::NotRunnable => ExitStatus::NotRunnable,
        Kind::NotPermitted => ExitStatus::NotPermitted,
        Kind::Other => ExitStatus::Failure,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_status_is_found_below_context() {
        let err = Err::<(), _>(Exit::usage("x"))
            .context("doing 'y'")
            .unwrap_err();
        assert_eq!(status_of(&err), ExitStatus::Usage);
        assert_eq!(status_of(&anyhow::anyhow!("x")), ExitStatus::Failure);
    }
}
