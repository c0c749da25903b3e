// SPDX-License-Identifier: Apache-2.0
//! References: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`, as the distribution specification and
//! `docker pull` have them.
//!
//! Normalised once: `nginx` is `docker.io/library/nginx:latest`. The first component is a registry
//! when it holds a '.' or ':' or is `localhost`. Equal images compare equal however written.

pub mod pattern;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Where `docker build -t x` and `podman build -t x` differ: podman writes this registry.
const LOCAL_REGISTRY: &str = "localhost";

/// Longest reference without its digest, so that one fits into a file name.
const REFERENCE_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A normalised reference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not a reference; printed by whoever read the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an image reference: {reason}")]
pub struct ReferenceError {
    text: String,
    reason: &'static str,
}

impl Reference {
    /// Whether `text` names no registry: which one is meant is for a search list to say.
    pub fn is_short(text: &str) -> bool {
        let path = text.split('@').next().unwrap_or_default();
        !path
            .split_once('/')
            .is_some_and(|(first, _)| is_host(first))
    }

    /// Whether `text` is a registry, perhaps with the first components of a repository.
    pub fn is_registry_name(text: &str) -> bool {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        is_host(host) && is_registry(host) && (path.is_empty() || path.split('/').all(is_component))
    }

    /// A registry, perhaps with the first components of a repository, as references have it: the
    /// host in lower case, a port as a number, Docker Hub by its own name. DNS and URLs know no
    /// difference, so what is refused under one of the spellings must be refused under all.
    pub fn normal_name(name: &str) -> String {
        match name.split_once('/') {
            Some((host, path)) => format!("{}/{path}", normal_host(host)),
            None => normal_host(name),
        }
    }

    /// The host, perhaps with a port, such as `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path on the registry, such as `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only when there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that the content must have.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same without a digest; none when there is no tag then.
    pub fn without_digest(&self) -> Option<Self> {
        self.tag.as_ref()?;
        Some(Self {
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository, by digest.
    pub fn at(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository on `localhost`, when no registry was written: images built by podman
    /// and buildah are called so.
    pub fn on_localhost(&self) -> Option<Self> {
        let repository = self.repository.strip_prefix("library/")?;
        (self.registry == DEFAULT_REGISTRY).then(|| Self {
            registry: LOCAL_REGISTRY.to_owned(),
            repository: repository.to_owned(),
            ..self.clone()
        })
    }

    /// As short as people write it: `nginx:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let hub = full.strip_prefix("docker.io/");
        let official = hub.and_then(|rest| rest.strip_prefix("library/"));
        match (official, hub) {
            (Some(short), _) if !short.contains('/') => short.to_owned(),
            // Without docker.io, "docker.io/a.b/c" would be on the registry a.b.
            (_, Some(short)) if short.contains('/') && Self::is_short(short) => short.to_owned(),
            (_, _) => full,
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |reason| {
            let start: String = text.chars().take(80).collect();
            ReferenceError {
                text: start.escape_debug().to_string(),
                reason,
            }
        };
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let digest = digest.parse();
                let digest = digest.map_err(|_| wrong("its digest is not sha256: and 64 digits"));
                (name, Some(digest?))
            }
        };
        // A ':' before the last '/' belongs to a registry's port.
        let (path, tag) = match name.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (name, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(
                "its tag must be letters, digits, '_', '.' and '-', at most 128",
            ));
        }
        let (registry, repository) = match path.split_once('/') {
            Some((first, rest)) if is_host(first) => (normal_host(first), rest.to_owned()),
            _ => (DEFAULT_REGISTRY.to_owned(), path.to_owned()),
        };
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository
        };
        if !is_registry(&registry) {
            return Err(wrong("its registry is not a host name"));
        }
        if !repository.split('/').all(is_component) {
            return Err(wrong(
                "its repository must be lower-case letters and digits, parted by '/', '.', '_', \
                 '__' or '-'",
            ));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (None, Some(_)) => None,
        };
        // As it will be stored and read again, not as it was written.
        let tagged = tag.as_ref().map_or(0, |tag| 1 + tag.len());
        if registry.len() + 1 + repository.len() + tagged > REFERENCE_BYTES_MAX {
            return Err(wrong("longer than 255 bytes with its registry and tag"));
        }
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// Whether the first component of a name is a registry rather than the start of a repository.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == LOCAL_REGISTRY
}

fn normal_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if matches!(host.as_str(), "index.docker.io" | "registry-1.docker.io") {
        return DEFAULT_REGISTRY.to_owned();
    }
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match host.rsplit_once(':') {
        Some((name, port)) if digits(port) => match port.parse::<u16>() {
            Ok(port) => format!("{name}:{port}"),
            Err(_) => host,
        },
        Some(_) | None => host,
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (
                "v6",
                port.strip_prefix(':').or(port.is_empty().then_some("1")),
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, Some("1")),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_port = |port: &str| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    };
    host.split('.').all(label) && port.is_some_and(is_port)
}

/// Lower-case letters and digits, single '.', '_', "__" or any number of '-' between them.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = component.split(word).filter(|part| !part.is_empty());
    component.starts_with(word)
        && component.ends_with(word)
        && separators
            .into_iter()
            .all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|b| b == b'-'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation() {
        let digest = Digest::of(b"");
        for (text, full, familiar) in [
            ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
            ("nginx:1", "docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1", "nginx:1"),
            (
                "docker.io/library/nginx:1",
                "docker.io/library/nginx:1",
                "nginx:1",
            ),
            ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
            (
                "Registry-1.Docker.IO/a/b",
                "docker.io/a/b:latest",
                "a/b:latest",
            ),
            (
                "LOCALHOST:0500/x:Y",
                "localhost:500/x:Y",
                "localhost:500/x:Y",
            ),
            ("a/b", "docker.io/a/b:latest", "a/b:latest"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            (
                "localhost:5000/x:y",
                "localhost:5000/x:y",
                "localhost:5000/x:y",
            ),
            (
                "quay.io/a/b/c:V_1.2-x",
                "quay.io/a/b/c:V_1.2-x",
                "quay.io/a/b/c:V_1.2-x",
            ),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
            (
                "docker.io/a.b/c",
                "docker.io/a.b/c:latest",
                "docker.io/a.b/c:latest",
            ),
            (
                "docker.io/localhost/c",
                "docker.io/localhost/c:latest",
                "docker.io/localhost/c:latest",
            ),
            (
                "my-app__x.y_z:1",
                "docker.io/library/my-app__x.y_z:1",
                "my-app__x.y_z:1",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text}");
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text}");
        }
        let pinned: Reference = format!("nginx:1@{digest}").parse().unwrap();
        assert_eq!(pinned.digest(), Some(&digest));
        assert_eq!(
            pinned.without_digest().unwrap().to_string(),
            "docker.io/library/nginx:1"
        );
        let only: Reference = format!("nginx@{digest}").parse().unwrap();
        assert_eq!((only.tag(), only.without_digest()), (None, None));
        let local: Reference = "x:1".parse().unwrap();
        assert_eq!(local.on_localhost().unwrap().to_string(), "localhost/x:1");
        let other: Reference = "quay.io/x:1".parse().unwrap();
        assert_eq!(other.on_localhost(), None);
    }

    #[test]
    fn short_names_and_registries() {
        for (text, is_short) in [
            ("nginx", true),
            ("nginx:1.2", true),
            ("team/app:1", true),
            ("nginx@sha256:00", true),
            ("quay.io/a", false),
            ("host:5000/a", false),
            ("localhost/a", false),
            ("quay.io", true),
        ] {
            assert_eq!(Reference::is_short(text), is_short, "{text}");
        }
        for (text, is_registry) in [
            ("quay.io", true),
            ("localhost:5000", true),
            ("[::1]:5000", true),
            ("quay.io/team/app", true),
            ("quay", false),
            ("quay.io/", true),
            ("quay.io/Team", false),
            ("https://quay.io", false),
            ("quay.io:x", false),
            ("user@quay.io", false),
            ("", false),
        ] {
            assert_eq!(Reference::is_registry_name(text), is_registry, "{text}");
        }
    }

    #[test]
    fn bad_references() {
        let long = "a".repeat(300);
        for bad in [
            "",
            ":",
            "@",
            "/",
            ":tag",
            "nginx:",
            "nginx@",
            "nginx@sha256:00",
            "Nginx",
            "a//b",
            "/a",
            "a/",
            "../x",
            "a/../b",
            "a b",
            "a\nb",
            "a:b:c/d",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "x.y",
            "host:99999/a",
            "host:/a",
            "host:0/a",
            "-h.x/a",
            "a:.b",
            "a:-b",
            "é",
            "[::g]/a",
            "a@sha512:00",
            "localhost/",
            &long,
        ] {
            // "x.y" alone is a repository, not a registry.
            if bad == "x.y" {
                assert!(bad.parse::<Reference>().is_ok());
                continue;
            }
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
