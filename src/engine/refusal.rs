// SPDX-License-Identifier: Apache-2.0
//! Errors that callers tell from others: refusals of the engine, and which kind an error is.
//!
//! Everything else is a chain of causes for people. What a backend means by an error of its own is
//! known here and nowhere above.

use crate::engine::container::Container;
use crate::image::manifest::NotRunnable;
use crate::image::pull;
use crate::name::ContainerName;
use crate::registry;
use crate::systemd::Error as SystemdError;

/// Nobody knows the container.
#[derive(Debug, thiserror::Error)]
#[error("there is no container '{name}': no '{base}.toml' in {searched}")]
pub struct Undefined {
    /// The container.
    name: ContainerName,
    /// Its definition's name.
    base: String,
    /// The directories that were searched.
    searched: String,
}

impl Undefined {
    /// The error for this one.
    pub fn new(container: Container<'_>) -> Self {
        let name = container.name();
        let dirs = container.paths().definition_dirs().iter().rev();
        let dirs: Vec<String> = dirs
            .map(|dir| dir.join("containers").display().to_string())
            .collect();
        Self {
            name: name.clone(),
            base: match name.instance() {
                Some(_) => format!("{}@", name.base()),
                None => name.base().to_owned(),
            },
            searched: dirs.join(", "),
        }
    }
}

/// Why a container is not what the caller wanted.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its state does not allow this.
    #[error("container '{name}' {fact}")]
    State {
        /// The container.
        name: ContainerName,
        /// What it is, and what to do.
        fact: String,
    },
    /// The job ended badly.
    #[error("container '{name}' {fact}")]
    Failed {
        /// The container.
        name: ContainerName,
        /// What systemctl would say.
        fact: String,
        /// The run whose journal tells more.
        invocation_id: Option<String>,
    },
}

/// A request that makes no sense, whatever is on the machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(String);

impl Misuse {
    /// With the reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

/// What kind of error one is, for those who act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A [`Misuse`].
    Misuse,
    /// [`Undefined`].
    NoSuchContainer,
    /// What was found is no image that can be run.
    NotRunnable,
    /// systemd or a registry does not permit it.
    NotPermitted,
    /// Any other.
    Other,
}

/// The kind of an error, wherever in its chain of causes the reason is.
pub fn kind_of(err: &anyhow::Error) -> Kind {
    for cause in err.chain() {
        if let Some(Misuse(_)) = cause.downcast_ref() {
            return Kind::Misuse;
        }
        if let Some(Undefined { .. }) = cause.downcast_ref() {
            return Kind::NoSuchContainer;
        }
        if let Some(NotRunnable { .. }) = cause.downcast_ref() {
            return Kind::NotRunnable;
        }
        if let Some(SystemdError::AccessDenied { .. }) = cause.downcast_ref() {
            return Kind::NotPermitted;
        }
    }
    match pull::registry_error(err).map(registry::Error::kind) {
        Some(registry::Kind::Denied) => Kind::NotPermitted,
        Some(_) | None => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_kind_is_found_below_context() {
        let err = Err::<(), _>(Misuse::new("x")).context("doing 'y'");
        assert_eq!(kind_of(&err.unwrap_err()), Kind::Misuse);
        assert_eq!(kind_of(&anyhow::anyhow!("x")), Kind::Other);
    }
}
