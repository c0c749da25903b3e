// SPDX-License-Identifier: Apache-2.0
//! Names: of containers, of units, of artifacts, of the container's stable id.
//!
//! Every name is parsed once, at the edge, and is a type from there on: a `ContainerName` can be
//! joined to a directory or put into a unit name without a further check (threats C10).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a container, in bytes, instance included, and of an artifact.
pub const NAME_MAX_BYTES: usize = 63;

/// Why a text is not a name.
///
/// The definition checker matches on nothing here; it prints it behind file, line and key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty, or one side of its `@` is.
    #[error("'{0}' is not a name: it is empty, or empty beside its '@'")]
    Empty(String),
    /// The text is longer than [`NAME_MAX_BYTES`].
    #[error("'{0}' is not a name: longer than 63 bytes")]
    TooLong(String),
    /// A name that stands for something else in the definition directories.
    #[error("'{0}' is not a name: it ends like the file of a definition or of drop-ins")]
    Reserved(String),
    /// A character that names must not hold, or a second `@`.
    #[error(
        "'{0}' is not a name: it must begin with a letter or digit and go on with letters, \
         digits, '_', '.' or '-'"
    )]
    Character(String),
}

/// The name of a container: `web`, or `web@blue` for an instance of the definition `web@.toml`.
///
/// Each part is `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, 63 bytes in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before `@`, or all of it.
    pub fn base(&self) -> &str {
        self.0
            .split_once('@')
            .map_or(self.0.as_str(), |(base, _)| base)
    }

    /// The part after `@`, if the container is an instance.
    pub fn instance(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, instance)| instance)
    }

    /// The unit that runs the container: `ctr@NAME.service`.
    pub fn unit(&self) -> UnitName {
        UnitName(format!("ctr@{}.service", self.0))
    }

    /// The container a unit runs, if it is one of ours.
    pub fn from_unit(unit: &str) -> Option<Self> {
        unit.strip_prefix("ctr@")?
            .strip_suffix(".service")?
            .parse()
            .ok()
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX_BYTES {
            return Err(NameError::TooLong(printable(text)));
        }
        let (base, instance) = match text.split_once('@') {
            Some((base, instance)) => (base, Some(instance)),
            None => (text, None),
        };
        for part in std::iter::once(base).chain(instance) {
            check_part(text, part)?;
        }
        // Their run-time directory would be taken for a definition or its drop-ins.
        if text.ends_with(".toml") || text.ends_with(".toml.d") {
            return Err(NameError::Reserved(printable(text)));
        }
        Ok(Self(text.to_owned()))
    }
}

fn check_part(text: &str, part: &str) -> Result<(), NameError> {
    let mut bytes = part.bytes();
    match bytes.next() {
        None => return Err(NameError::Empty(printable(text))),
        Some(first) if first.is_ascii_alphanumeric() => {}
        Some(_) => return Err(NameError::Character(printable(text))),
    }
    if bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        Ok(())
    } else {
        Err(NameError::Character(printable(text)))
    }
}

/// The text with control characters escaped and cut to a length that fits an error message.
fn printable(text: &str) -> String {
    text.chars()
        .take(NAME_MAX_BYTES + 1)
        .flat_map(char::escape_debug)
        .collect()
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

/// The name of an artifact, a file kept with a container: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ArtifactName(String);

impl ArtifactName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX_BYTES {
            return Err(NameError::TooLong(printable(text)));
        }
        check_part(text, text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stable id of a container: 64 lower-case hexadecimal digits.
///
/// Derived from the machine and the name, so that it is the same at every start and differs
/// between machines. The OCI runtime knows the container by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerId(String);

impl ContainerId {
    /// The id of `name` on the machine that `machine_id` names (machine-id(5)).
    ///
    /// machine-id(5) asks not to show the machine id itself, so it is hashed with the name.
    pub fn derive(machine_id: &str, name: &ContainerName) -> Self {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        hash.update(b"wharf container\0");
        hash.update(machine_id.trim().as_bytes());
        hash.update(b"\0");
        hash.update(name.as_str().as_bytes());
        Self(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as people see it.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

/// The full name of a systemd unit, such as `ctr@web.service` (systemd.unit(5)).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct UnitName(String);

impl UnitName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UnitName {
    type Err = String;

    /// Takes what systemd takes: its character set, a known suffix, fewer than 256 bytes.
    fn from_str(text: &str) -> Result<Self, String> {
        const SUFFIXES: [&str; 11] = [
            "service",
            "socket",
            "device",
            "mount",
            "automount",
            "swap",
            "target",
            "path",
            "timer",
            "slice",
            "scope",
        ];
        let quoted = printable(text);
        if text.len() >= 256 {
            return Err(format!(
                "'{quoted}' is not a unit name: longer than 255 bytes"
            ));
        }
        match text.rsplit_once('.') {
            Some((stem, suffix)) if !stem.is_empty() && SUFFIXES.contains(&suffix) => {}
            _ => {
                return Err(format!(
                    "'{quoted}' is not a unit name: it must end in .service, .target or another \
                     unit type"
                ));
            }
        }
        let valid = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        if text.bytes().all(valid) && !text.starts_with('@') {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "'{quoted}' is not a unit name: only letters, digits and ':-_.\\@' are allowed"
            ))
        }
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names() {
        for good in ["web", "a", "0", "Web_1.x-y", "web@blue", "web@1.2"] {
            assert_eq!(
                good.parse::<ContainerName>().unwrap().as_str(),
                good,
                "{good}"
            );
        }
        let long = "a".repeat(64);
        for bad in [
            "", "@", "web@", "@x", "a@b@c", "../x", "-rf", ".x", "a/b", "a b", "a\nb", "wéb",
            "web@.", "_x", &long,
        ] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn artifact_names() {
        for good in ["a", "app.conf", "2026-11-22_dump.sql.gz", &"a".repeat(63)] {
            let name: ArtifactName = good.parse().unwrap();
            assert_eq!(name.as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".new-1",
            "a/b",
            "../a",
            "-a",
            "a b",
            "a\nb",
            "\u{e4}",
            "a@b",
            "a\0",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<ArtifactName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn units_and_ids() {
        let name: ContainerName = "web@blue".parse().unwrap();
        assert_eq!(name.unit().as_str(), "ctr@web@blue.service");
        assert_eq!(
            ContainerName::from_unit("ctr@web@blue.service"),
            Some(name.clone())
        );
        assert_eq!(ContainerName::from_unit("nginx.service"), None);
        let id = ContainerId::derive("0123\n", &name);
        assert_eq!(id, ContainerId::derive("0123", &name));
        assert_eq!(id.as_str().len(), 64);
        assert_eq!(id.short().len(), 12);
        for bad in [
            "",
            ".service",
            "a b.service",
            "web",
            "x.conf",
            "@.service",
            "a\n.service",
        ] {
            assert!(bad.parse::<UnitName>().is_err(), "{bad:?}");
        }
        assert!("dev-disk-by\\x2dlabel-x.mount".parse::<UnitName>().is_ok());
    }
}
