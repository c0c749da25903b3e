// SPDX-License-Identifier: Apache-2.0
//! Credentials for registries: verified with them, kept, and forgotten.

use std::path::PathBuf;

use anyhow::bail;

use crate::engine::refusal::Misuse;
use crate::paths::Paths;
use crate::reference::Reference;
use crate::registry::Client;
use crate::registry::credentials::{AuthFile, Credentials, login_file};
use crate::settings::Settings;

/// A registry as credentials are filed: host, port, path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry(String);

impl std::fmt::Display for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Registry {
    type Err = Misuse;

    fn from_str(text: &str) -> Result<Self, Misuse> {
        let name = text.trim_end_matches('/');
        // The grammar of references, of which a registry with a path is the beginning.
        if !Reference::is_registry_name(name) {
            return Err(Misuse::new(format!(
                "'{text}' is not a registry; write its host without 'https://', such as \
                 registry.example.com:5000"
            )));
        }
        Ok(Self(Reference::normal_name(name)))
    }
}

/// Asks the registry whether what is stored for it is good.
pub fn verify_stored(paths: &Paths, registry: &Registry) -> anyhow::Result<()> {
    Ok(client(paths)?.verify_stored(&registry.0)?)
}

fn client(paths: &Paths) -> anyhow::Result<Client> {
    Client::new(paths, &Settings::load(paths)?)
}

/// A registry that somebody logs in to. It is made before anybody is asked for a password: a
/// configuration that cannot be read is told first.
#[derive(Debug)]
pub struct Login<'a> {
    paths: &'a Paths,
    client: Client,
}

impl<'a> Login<'a> {
    /// Reads the configuration of registries.
    pub fn new(paths: &'a Paths) -> anyhow::Result<Self> {
        let client = client(paths)?;
        Ok(Self { paths, client })
    }

    /// Verifies user and password with the registry and keeps them; returns the file.
    pub fn log_in(
        &self,
        registry: &Registry,
        user: String,
        password: String,
    ) -> anyhow::Result<PathBuf> {
        let credentials = Credentials::Password { user, password };
        self.client.verify(&registry.0, &credentials)?;
        let path = login_file(self.paths);
        let mut file = AuthFile::load_or_new(&path)?;
        file.set(&registry.0, &credentials);
        file.store()?;
        Ok(path)
    }
}

/// Forgets the credentials of a registry, or of all; returns those that were there.
///
/// # Errors
///
/// None are kept for the registry that is named.
pub fn log_out(paths: &Paths, registry: Option<&Registry>) -> anyhow::Result<Vec<String>> {
    let path = login_file(paths);
    let mut file = AuthFile::load_or_new(&path)?;
    let names = match registry {
        Some(registry) => vec![registry.0.clone()],
        None => file.names(),
    };
    for name in &names {
        // What is not there is as it was asked to be with all, and a slip without.
        if !file.remove(name) && registry.is_some() {
            bail!(
                "'{}' has no credentials for '{name}'; those of other files are kept by other \
                 programs, see wharf(1)",
                path.display()
            );
        }
    }
    if !names.is_empty() {
        file.store()?;
    }
    Ok(names)
}
