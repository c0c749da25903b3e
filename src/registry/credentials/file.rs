// SPDX-License-Identifier: Apache-2.0
//! One file of credentials: containers-auth.json(5), which is Docker's config.json with paths.
//!
//! What we do not know of in a file is kept when it is written again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::{Credentials, helper};
use crate::sys;
use crate::sys::fs::Durability;

/// Largest file of credentials.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The names that Docker has for its own registry.
const DOCKER_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// A file of credentials.
#[derive(Debug)]
pub struct AuthFile {
    path: PathBuf,
    document: Map<String, Value>,
}

impl AuthFile {
    /// Reads a file; none when it is absent or empty, as `podman logout --all` leaves it.
    ///
    /// # Errors
    ///
    /// It cannot be read or is not JSON.
    pub fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match sys::fs::read_limited(path, FILE_BYTES_MAX) {
            Err(err) if err.is_absent() => return Ok(None),
            other => other.context("reading credentials")?,
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // The parser's own message would quote what it found.
        let document = serde_json::from_slice(&bytes).map_err(|err| {
            anyhow!(
                "'{}' is not a file of credentials: bad JSON in line {}",
                path.display(),
                err.line()
            )
        })?;
        Ok(Some(Self {
            path: path.to_owned(),
            document,
        }))
    }

    /// Reads a file, or begins an empty one.
    ///
    /// # Errors
    ///
    /// As [`AuthFile::load`].
    pub fn load_or_new(path: &Path) -> anyhow::Result<Self> {
        Ok(Self::load(path)?.unwrap_or_else(|| Self {
            path: path.to_owned(),
            document: Map::new(),
        }))
    }

    /// The credentials for a repository: its helper's, else the entry with the longest path.
    pub(super) fn find(
        &self,
        host: &str,
        repository: &str,
        deadline: Duration,
    ) -> anyhow::Result<Option<Credentials>> {
        let helpers = self.document.get("credHelpers").and_then(Value::as_object);
        for key in keys(host, repository) {
            let name = helpers
                .and_then(|helpers| helpers.get(&key))
                .and_then(Value::as_str);
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return helper::get(name, &key, deadline);
            }
            if let Some(found) = self.entry(&key)? {
                return Ok(Some(found));
            }
        }
        match self.document.get("credsStore").and_then(Value::as_str) {
            Some(name) if !name.is_empty() => {
                let server = if is_docker(host) {
                    "https://index.docker.io/v1/"
                } else {
                    host
                };
                helper::get(name, server, deadline)
            }
            _ => Ok(None),
        }
    }

    fn auths(&self) -> Option<&Map<String, Value>> {
        self.document.get("auths").and_then(Value::as_object)
    }

    /// The entry written for exactly this key.
    fn entry(&self, key: &str) -> anyhow::Result<Option<Credentials>> {
        let Some(auths) = self.auths() else {
            return Ok(None);
        };
        // Docker writes URLs for what containers-auth.json has plain names.
        let same = |written: &&String| normalised(written) == key;
        let found = auths.get(key).or_else(|| {
            let written = auths.keys().find(same)?;
            auths.get(written)
        });
        found.map_or(Ok(None), |entry| {
            decode(entry).with_context(|| format!("reading the entry of '{}'", key.escape_debug()))
        })
    }

    /// Sets the credentials of a registry.
    pub fn set(&mut self, key: &str, credentials: &Credentials) {
        let entry = match credentials {
            Credentials::Password { user, password } => {
                json!({ "auth": BASE64.encode(format!("{user}:{password}")) })
            }
            Credentials::IdentityToken(token) => json!({ "identitytoken": token }),
        };
        let auths = self.document.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key.to_owned(), entry);
        }
    }

    /// Forgets the credentials of a registry; whether there were any.
    pub fn remove(&mut self, key: &str) -> bool {
        let auths = self
            .document
            .get_mut("auths")
            .and_then(Value::as_object_mut);
        auths.is_some_and(|auths| {
            let before = auths.len();
            auths.retain(|written, _| written != key && normalised(written) != key);
            auths.len() < before
        })
    }

    /// The registries and repositories there are credentials for, without their helpers'.
    pub fn names(&self) -> Vec<String> {
        let auths = self.auths().into_iter().flat_map(Map::keys);
        auths.map(|key| normalised(key)).collect()
    }

    /// Replaces the file, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn store(&self) -> anyhow::Result<()> {
        if let Some(dir) = self.path.parent() {
            sys::fs::ensure_dir(dir, 0o755).context("storing credentials")?;
        }
        let mut bytes = serde_json::to_vec_pretty(&self.document)?;
        bytes.push(b'\n');
        sys::fs::write_atomic(&self.path, &bytes, 0o600, Durability::Disk)
            .context("storing credentials")
    }
}

/// What can be written for a repository, the most special first: with its path, with the
/// beginnings of that, the host alone.
fn keys(host: &str, repository: &str) -> Vec<String> {
    let host = if is_docker(host) { "docker.io" } else { host };
    let mut keys = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        keys.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    keys.push(host.to_owned());
    keys
}

fn is_docker(host: &str) -> bool {
    DOCKER_HOSTS.contains(&host)
}

/// A key as containers-auth.json has it, for one that Docker wrote: `https://HOST/v1/`.
fn normalised(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let (host, path) = match bare {
        // The path of a URL is that of the protocol, not a repository's.
        Some(rest) => (rest.split('/').next().unwrap_or_default(), ""),
        None => key.split_at(key.find('/').unwrap_or(key.len())),
    };
    let host = if is_docker(host) { "docker.io" } else { host };
    // Old Docker clients wrote the path without a scheme too.
    let path = if matches!(path, "/v1/" | "/v2/" | "/v1" | "/v2" | "/") {
        ""
    } else {
        path
    };
    format!("{host}{path}")
}

fn decode(entry: &Value) -> anyhow::Result<Option<Credentials>> {
    let text = |key: &str| {
        let value = entry.get(key).and_then(Value::as_str);
        value.filter(|value| !value.is_empty())
    };
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken(token.to_owned())));
    }
    if let (Some(user), Some(password)) = (text("username"), text("password")) {
        return Ok(Some(Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        }));
    }
    // Empty with a store: the helper has it.
    let Some(auth) = text("auth") else {
        return Ok(None);
    };
    let bytes = BASE64
        .decode(auth)
        .map_err(|_| anyhow!("it is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("it is not UTF-8"))?;
    let (user, password) = text
        .split_once(':')
        .context("it has no ':' between user and password")?;
    ensure!(!user.is_empty(), "it has an empty user");
    Ok(Some(Credentials::Password {
        user: user.to_owned(),
        // Docker pads with NUL.
        password: password.trim_end_matches('\0').to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> AuthFile {
        AuthFile {
            path: PathBuf::from("/auth.json"),
            document: serde_json::from_str(json).unwrap(),
        }
    }

    #[test]
    fn the_longest_path_wins() {
        // u1:p1 … u4:p4
        let file = file(
            r#"{"auths": {
                "quay.io": {"auth": "dTE6cDE="},
                "quay.io/team": {"auth": "dTI6cDI="},
                "quay.io/team/app": {"auth": "dTM6cDM="},
                "https://index.docker.io/v1/": {"auth": "dTQ6cDQ="},
                "old.example/v1/": {"username": "u5", "password": "p5"},
                "token.example": {"identitytoken": "t", "auth": "dTE6cDE="},
                "empty.example": {}
            }}"#,
        );
        for (host, repository, expected) in [
            ("quay.io", "x", "u1"),
            ("quay.io", "teamwork", "u1"),
            ("quay.io", "team/other", "u2"),
            ("quay.io", "team/app", "u3"),
            ("quay.io", "team/app/part", "u3"),
            ("docker.io", "library/nginx", "u4"),
            ("registry-1.docker.io", "library/nginx", "u4"),
            ("old.example", "x", "u5"),
            ("token.example", "x", "identity token"),
            ("empty.example", "x", "none"),
            ("quay.io:443", "x", "none"),
            ("evil.quay.io", "x", "none"),
        ] {
            let found = file.find(host, repository, Duration::ZERO).unwrap();
            let who = match &found {
                Some(Credentials::Password { user, .. }) => user.as_str(),
                Some(Credentials::IdentityToken(_)) => "identity token",
                None => "none",
            };
            assert_eq!(who, expected, "R10 {host}/{repository}");
        }
    }

    #[test]
    fn bad_entries_are_told_without_the_secret() {
        for auth in ["%%%", "bm9jb2xvbg==", "OnA="] {
            let file = file(&format!(r#"{{"auths": {{"h.x": {{"auth": "{auth}"}}}}}}"#));
            let err = file.find("h.x", "r", Duration::ZERO).unwrap_err();
            let text = format!("{err:#}");
            assert!(text.contains("'h.x'") && !text.contains(auth), "{text}");
        }
    }

    #[test]
    fn a_file_is_written_for_its_owner_and_keeps_what_it_has() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/auth.json");
        assert!(AuthFile::load(&path).unwrap().is_none());
        let mut file = AuthFile::load_or_new(&path).unwrap();
        file.document.insert("other".to_owned(), json!(1));
        let credentials = Credentials::Password {
            user: "u".to_owned(),
            password: "p:q".to_owned(),
        };
        file.set("quay.io", &credentials);
        file.store().unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut again = AuthFile::load(&path).unwrap().unwrap();
        assert_eq!(
            again.find("quay.io", "x", Duration::ZERO).unwrap(),
            Some(credentials)
        );
        assert_eq!(again.document.get("other"), Some(&json!(1)));
        assert_eq!(again.names(), ["quay.io"]);
        assert!(again.remove("quay.io") && !again.remove("quay.io"));
    }
}
