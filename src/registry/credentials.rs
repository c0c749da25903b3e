// SPDX-License-Identifier: Apache-2.0
//! Who we are to a registry: the containers auth.json, Docker's config.json, credential helpers.
//!
//! The first file that knows the registry counts; in it, the entry with the longest path. Files
//! are read when a registry asks, never before, and no secret is printed: the types' `Debug` hides
//! them.

mod file;
mod helper;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use file::AuthFile;

use crate::paths::Paths;

/// A user name with a password, or what a registry gave in their place.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// For Basic, and for token servers.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token, for token servers alone.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => f.debug_tuple("Password").field(user).finish(),
            Self::IdentityToken(_) => f.debug_tuple("IdentityToken").finish(),
        }
    }
}

impl Credentials {
    /// The value of an `Authorization` field of scheme Basic; an identity token has none.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => Some(format!(
                "Basic {}",
                BASE64.encode(format!("{user}:{password}"))
            )),
            Self::IdentityToken(_) => None,
        }
    }
}

/// Where credentials are looked for, first to last.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<PathBuf>,
    helper_deadline: Duration,
}

impl Files {
    /// `$REGISTRY_AUTH_FILE` alone if it is set; else the unit's credential `wharf.auth`, ours,
    /// Podman's, Docker's.
    pub(super) fn of(paths: &Paths, helper_deadline: Duration) -> Self {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let files = match variable("REGISTRY_AUTH_FILE") {
            Some(only) => vec![only],
            None => {
                let home = variable("HOME");
                let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
                let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
                let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
                let unit = variable("CREDENTIALS_DIRECTORY");
                [
                    unit.map(|dir| dir.join("wharf.auth")),
                    Some(paths.auth_file()),
                    paths.containers_auth_file(),
                    config.map(|dir| dir.join("containers/auth.json")),
                    docker.map(|dir| dir.join("config.json")),
                ]
                .into_iter()
                .flatten()
                .collect()
            }
        };
        Self {
            files,
            helper_deadline,
        }
    }

    /// The credentials for a repository on a registry, if any.
    ///
    /// # Errors
    ///
    /// A file that cannot be understood, a helper that fails.
    pub(super) fn find(&self, host: &str, repository: &str) -> anyhow::Result<Option<Credentials>> {
        for path in &self.files {
            let Some(file) = AuthFile::load(path)? else {
                continue;
            };
            let found = file
                .find(host, repository, self.helper_deadline)
                .with_context(|| format!("looking for credentials in '{}'", path.display()))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The file that `wharf login` writes: `$REGISTRY_AUTH_FILE`, else wharf's own.
pub fn login_file(paths: &Paths) -> PathBuf {
    std::env::var_os("REGISTRY_AUTH_FILE")
        .filter(|value| !value.is_empty())
        .map_or_else(|| paths.auth_file(), PathBuf::from)
}
