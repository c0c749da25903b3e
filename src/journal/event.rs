// SPDX-License-Identifier: Apache-2.0
//! The vocabulary of our journal entries: message ids and field names.
//!
//! Users filter on these (`journalctl MESSAGE_ID=…`), so neither ever changes meaning. wharf(1)
//! lists them; `wharf events` reads them back.

/// What an entry reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The container's process was started.
    Started,
    /// The container's run ended, for whatever reason; [`REASON`] and [`EXIT_CODE`] tell.
    Exited,
    /// wharf could not start the container.
    EngineFailed,
    /// The relay was killed while the container ran; its guard has started another.
    RelayDied,
    /// The journal was away for too long and output was dropped.
    OutputLost,
    /// The container sent systemd a notification that is not passed on.
    NotificationRefused,
    /// The container had to be killed because it ignored the stop signal.
    StopSignalIgnored,
}

impl Event {
    /// Every event, in the order of a container's life.
    pub const ALL: [Self; 7] = [
        Self::Started,
        Self::Exited,
        Self::EngineFailed,
        Self::RelayDied,
        Self::OutputLost,
        Self::NotificationRefused,
        Self::StopSignalIgnored,
    ];

    /// The entry's `MESSAGE_ID`, 32 hexadecimal digits (sd-id128(3)).
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::Started => "dc9365dbbb55486b8c5a85fe1a1eb2eb",
            Self::Exited => "940eba0f70cf44cdb668273b8ae0951b",
            Self::EngineFailed => "6585d34a8d1e40a1b2f853ced3ffa532",
            Self::RelayDied => "31087b0dcf094be7803777ce53e4874f",
            Self::OutputLost => "a3b1d0f2c6c84fe0b9d7a9f64d8e5b17",
            Self::NotificationRefused => "5d0c6a7be2c1470f9a54f1c3b08e2d69",
            Self::StopSignalIgnored => "f753119546374c0295cd82ae5a0c0c63",
        }
    }

    /// The event's name for people and in `wharf events --json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Exited => "exited",
            Self::EngineFailed => "engine-failed",
            Self::RelayDied => "relay-died",
            Self::OutputLost => "output-lost",
            Self::NotificationRefused => "notification-refused",
            Self::StopSignalIgnored => "stop-signal-ignored",
        }
    }

    /// The event of a `MESSAGE_ID`, if it is one of ours.
    pub fn from_message_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.message_id() == id)
    }
}

/// The container's name; other journald drivers use the same field.
pub const CONTAINER_NAME: &str = "CONTAINER_NAME";
/// The first 12 digits of the container's id.
pub const CONTAINER_ID: &str = "CONTAINER_ID";
/// The container's whole id.
pub const CONTAINER_ID_FULL: &str = "CONTAINER_ID_FULL";
/// The image's reference as written in the definition.
pub const IMAGE_NAME: &str = "IMAGE_NAME";
/// The unit an entry of ours is about, as systemd's own entries have it.
pub const UNIT: &str = "UNIT";
/// The same, in the field by which `journalctl -u` finds what root says about a unit: journald
/// cannot tell the unit of a process that has ended before it looks, as `wharf cleanup` may have.
pub const OBJECT_UNIT: &str = "OBJECT_SYSTEMD_UNIT";
/// One of the events, [`Event::message_id`].
pub const MESSAGE_ID: &str = "MESSAGE_ID";
/// Why a run ended: a word of `history::Reason`.
pub const REASON: &str = "WHARF_REASON";
/// The payload's exit code, decimal.
pub const EXIT_CODE: &str = "WHARF_EXIT_CODE";
/// The signal that ended the payload, without `SIG`.
pub const EXIT_SIGNAL: &str = "WHARF_EXIT_SIGNAL";
/// The manifest digest of the image that ran.
pub const IMAGE_DIGEST: &str = "WHARF_IMAGE_DIGEST";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_distinct_ids() {
        for event in Event::ALL {
            let id = event.message_id();
            assert_eq!(id.len(), 32, "{event:?}");
            assert!(id.bytes().all(|b| b.is_ascii_hexdigit()), "{event:?}");
            assert_eq!(Event::from_message_id(id), Some(event));
        }
    }
}
