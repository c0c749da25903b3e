// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between us and systemd, told apart by D-Bus error *names*, never by text.

use std::time::Duration;

/// A failed request to systemd.
///
/// `engine::lifecycle` matches on the variants to say what to do next, `cli::exit` to choose the
/// exit status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("'{address}': {reason}; this needs systemd and its message bus")]
    Unreachable {
        /// Where systemd was expected to listen.
        address: String,
        /// What happened there.
        reason: String,
    },
    /// systemd did not answer.
    #[error(
        "systemd did not answer within {} s; it may be busy reloading, try again",
        .0.as_secs()
    )]
    Silent(Duration),
    /// The connection ended, as it does when systemd re-executes itself.
    #[error("systemd closed the connection")]
    Closed,
    /// The caller may not do this.
    #[error("not permitted: {message}")]
    AccessDenied {
        /// What systemd said.
        message: String,
    },
    /// The unit does not exist.
    #[error("systemd knows no such unit: {message}")]
    NoSuchUnit {
        /// What systemd said.
        message: String,
    },
    /// The unit is masked.
    #[error("unit is masked: {message}")]
    Masked {
        /// What systemd said.
        message: String,
    },
    /// The unit cannot do this kind of job, such as a reload without `ExecReload=`.
    #[error("{message}")]
    NotApplicable {
        /// What systemd said.
        message: String,
    },
    /// Anything else systemd refused.
    #[error("{message} ({name})")]
    Refused {
        /// The D-Bus error's name.
        name: String,
        /// What systemd said.
        message: String,
    },
    /// A message we could not make or read.
    #[error("D-Bus: {0}")]
    Protocol(String),
}

impl Error {
    /// The error for a D-Bus error reply.
    pub(super) fn from_reply(name: &str, message: &str) -> Self {
        let message = message.to_owned();
        match name {
            "org.freedesktop.systemd1.NoSuchUnit" => Self::NoSuchUnit { message },
            "org.freedesktop.systemd1.UnitMasked" => Self::Masked { message },
            "org.freedesktop.systemd1.JobTypeNotApplicable" => Self::NotApplicable { message },
            "org.freedesktop.DBus.Error.AccessDenied"
            | "org.freedesktop.DBus.Error.AuthFailed"
            | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => {
                Self::AccessDenied { message }
            }
            name => Self::Refused {
                name: name.to_owned(),
                message,
            },
        }
    }
}
