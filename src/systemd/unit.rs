// SPDX-License-Identifier: Apache-2.0
//! What systemd says about a unit, in types.

use std::collections::HashMap;

use zbus::{OwnedVariant, Variant};

/// `ActiveState` (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActiveState {
    /// Started.
    Active,
    /// Started, and loading its configuration again.
    Reloading,
    /// Not started.
    Inactive,
    /// Not started, because it failed.
    Failed,
    /// Being started, or waiting to be started again.
    Activating,
    /// Being stopped.
    Deactivating,
    /// A state this version of wharf does not know, or `maintenance`.
    Other,
}

impl ActiveState {
    /// The state of its word.
    pub fn parse(word: &str) -> Self {
        match word {
            "active" => Self::Active,
            "reloading" | "refreshing" => Self::Reloading,
            "inactive" => Self::Inactive,
            "failed" => Self::Failed,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            _ => Self::Other,
        }
    }
}

/// One unit of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUnit {
    /// The unit's name.
    pub name: String,
    /// `LoadState`: `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load_state: String,
    /// `ActiveState`.
    pub active: ActiveState,
    /// `SubState`, such as `running` or `auto-restart`.
    pub sub_state: String,
}

/// All properties of a service unit.
#[derive(Debug, Clone)]
pub struct UnitProperties(HashMap<String, OwnedVariant>);

impl UnitProperties {
    pub(super) fn new(map: HashMap<String, OwnedVariant>) -> Self {
        Self(map)
    }

    /// A text; empty when the property is.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Variant::Str(text)) => text.as_str(),
            _ => "",
        }
    }

    /// A number that is not negative; none for systemd's "not set" and "infinity".
    pub fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Variant::U32(number) => Some(u64::from(*number)),
            Variant::U64(u64::MAX) => None,
            Variant::U64(number) => Some(*number),
            Variant::I32(number) => u64::try_from(*number).ok(),
            Variant::I64(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Whether a boolean property is true.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Variant::Bool(true)))
    }

    /// The texts of a list of texts.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        let Some(Variant::Array(array)) = self.get(name) else {
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| match item {
                Variant::Str(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Bytes, such as an id or a bit mask.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let Some(Variant::Array(array)) = self.get(name) else {
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|item| match item {
                Variant::U8(byte) => Some(*byte),
                _ => None,
            })
            .collect()
    }

    /// `ActiveState`.
    pub fn active(&self) -> ActiveState {
        ActiveState::parse(self.text("ActiveState"))
    }

    /// Whether the freezer holds the unit, by itself or through its slice.
    pub fn is_frozen(&self) -> bool {
        matches!(
            self.text("FreezerState"),
            "frozen" | "freezing" | "frozen-by-parent" | "freezing-by-parent"
        )
    }

    /// systemd's id of the current run, 32 hexadecimal digits; none before the first.
    pub fn invocation_id(&self) -> Option<String> {
        let id: String = self
            .bytes("InvocationID")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        (id.len() == 32 && id.bytes().any(|digit| digit != b'0')).then_some(id)
    }

    fn get(&self, name: &str) -> Option<&Variant<'static>> {
        self.0.get(name).map(|value| &**value)
    }
}
