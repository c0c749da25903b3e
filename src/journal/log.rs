// SPDX-License-Identifier: Apache-2.0
//! Writing events to the journal.
//!
//! An event is one structured entry with a `MESSAGE_ID` and the container's fields, sent by
//! journald's native protocol, which delimits values by length: nothing in a value can become
//! another field (hostile-inputs L2).

use libsystemd::logging::{Priority, journal_send};

use super::event::{CONTAINER_NAME, Event, MESSAGE_ID, UNIT};
use crate::name::ContainerName;

/// Writes an event about a container.
///
/// An event that cannot be written is traced and dropped: what it tells about has happened.
pub fn event(event: Event, name: &ContainerName, message: &str, fields: &[(&str, String)]) {
    let unit = name.unit();
    let own = [
        (MESSAGE_ID, event.message_id()),
        (CONTAINER_NAME, name.as_str()),
        (UNIT, unit.as_str()),
        ("SYSLOG_IDENTIFIER", "wharf"),
    ];
    let priority = match event {
        Event::Started | Event::Exited => Priority::Info,
        Event::StopSignalIgnored => Priority::Warning,
        Event::EngineFailed | Event::RelayDied => Priority::Error,
    };
    let given = fields.iter().map(|(key, value)| (*key, value.as_str()));
    let all: Vec<(&str, &str)> = own.into_iter().chain(given).collect();
    if let Err(err) = journal_send(priority, message, all.into_iter()) {
        tracing::debug!("writing a journal event, ignoring: {err}");
    }
}

/// Tells people something about the unit that this process belongs to, at *notice*.
pub fn note(message: &str) {
    let fields = [("SYSLOG_IDENTIFIER", "wharf")];
    if let Err(err) = journal_send(Priority::Notice, message, fields.into_iter()) {
        tracing::debug!("writing to the journal, ignoring: {err}");
    }
}
