// SPDX-License-Identifier: Apache-2.0
//! Events of containers, one object a line.

use serde::Serialize;

use super::SCHEMA;
use crate::engine::view::logs::Happened;
use crate::name::ContainerName;

/// One line of `events --json`, which prints one object a line.
#[derive(Debug, Serialize)]
pub struct Event {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When journald received it.
    pub time: String,
    /// `started`, `exited`, `engine-failed`, `relay-died` or `stop-signal-ignored`.
    pub event: &'static str,
    /// The container.
    pub name: ContainerName,
    /// systemd's id of the run.
    pub invocation_id: Option<String>,
    /// The image's reference.
    pub image: Option<String>,
    /// Why a run ended.
    pub reason: Option<String>,
    /// Exit code.
    pub code: Option<i32>,
    /// Signal, without `SIG`.
    pub signal: Option<String>,
    /// The entry's text.
    pub message: String,
}

impl From<Happened> for Event {
    fn from(happened: Happened) -> Self {
        let Happened {
            time,
            event,
            name,
            invocation_id,
            image,
            reason,
            code,
            signal,
            message,
        } = happened;
        Self {
            schema: SCHEMA,
            time,
            event,
            name,
            invocation_id,
            image,
            reason,
            code,
            signal,
            message,
        }
    }
}
