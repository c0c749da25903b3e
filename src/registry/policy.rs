// SPDX-License-Identifier: Apache-2.0
//! containers-policy.json(5): which images this machine takes, by where they come from.
//!
//! Of the requirements of the narrowest scope that fits, all must hold. wharf can tell acceptance
//! and rejection; it cannot verify signatures yet, so whatever must be signed is refused, and never
//! taken as it is. A file that cannot be understood refuses everything, as it may be the one that
//! rejects.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::error::quote;
use crate::paths::Paths;
use crate::reference::Reference;
use crate::sys;

/// Largest policy: 1 MiB.
const BYTES_MAX: u64 = 1 << 20;

/// Where an image comes from.
#[derive(Debug, Clone, Copy)]
pub enum Origin<'a> {
    /// A registry: transport `docker`.
    Registry(&'a Reference),
    /// `docker-archive`, which has no scopes.
    DockerArchive,
    /// `oci-archive`, a file; none when it is a stream.
    OciArchive(Option<&'a Path>),
    /// `oci`, a directory.
    OciLayout(&'a Path),
}

/// What the machine's policy says; the default is that there is none, and everything is taken.
#[derive(Debug, Default)]
pub struct Policy(Option<(PathBuf, Document)>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: Unique<Unique<Vec<Requirement>>>,
}

/// What must hold; how something must be signed is not looked at, as it is refused anyway.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
enum Requirement {
    InsecureAcceptAnything {},
    Reject {},
    SignedBy(IgnoredAny),
    SigstoreSigned(IgnoredAny),
    SignedBaseLayer(IgnoredAny),
}

impl Policy {
    /// Reads the first policy that there is.
    ///
    /// # Errors
    ///
    /// It cannot be understood.
    pub fn load(paths: &Paths) -> anyhow::Result<Self> {
        for path in paths.policy_files() {
            let bytes = match sys::fs::read_limited(&path, BYTES_MAX) {
                Err(err) if err.is_absent() => continue,
                other => other?,
            };
            let document = parse(&bytes)
                .with_context(|| format!("reading the policy '{}'", path.display()))?;
            return Ok(Self(Some((path, document))));
        }
        Ok(Self::default())
    }

    /// Fails unless images from there are taken.
    ///
    /// # Errors
    ///
    /// They are rejected, or would have to be signed.
    pub fn check(&self, origin: Origin<'_>) -> anyhow::Result<()> {
        let Some((path, document)) = &self.0 else {
            return Ok(());
        };
        let path = path.display();
        let transport = origin.transport();
        let (scope, requirements) = document.find(transport, &origin.scopes());
        let scope = match scope {
            Some("") => format!("images of '{transport}'"),
            Some(scope) => format!("images of '{}'", quote(scope)),
            None => "images that it does not name".to_owned(),
        };
        for requirement in requirements {
            let kind = match requirement {
                Requirement::InsecureAcceptAnything {} => continue,
                Requirement::Reject {} => {
                    bail!("the policy '{path}' rejects {scope}; change it there to take this one")
                }
                Requirement::SignedBy(_) => "signedBy",
                Requirement::SigstoreSigned(_) => "sigstoreSigned",
                Requirement::SignedBaseLayer(_) => "signedBaseLayer",
            };
            bail!(
                "the policy '{path}' wants {scope} to be signed ('{kind}'), which wharf cannot \
                 verify yet; copy it with skopeo, which can, to an archive that the policy \
                 accepts, and load that"
            );
        }
        Ok(())
    }
}

impl Document {
    /// The narrowest scope that fits, none for the default of all, and what it demands.
    fn find<'d>(
        &'d self,
        transport: &str,
        scopes: &[String],
    ) -> (Option<&'d str>, &'d [Requirement]) {
        let named = self.transports.0.get(transport).and_then(|named| {
            let mut scopes = scopes.iter().map(String::as_str).chain([""]);
            scopes.find_map(|scope| named.0.get_key_value(scope))
        });
        match named {
            Some((scope, requirements)) => (Some(scope), requirements),
            None => (None, &self.default),
        }
    }
}

impl Origin<'_> {
    fn transport(&self) -> &'static str {
        match self {
            Self::Registry(_) => "docker",
            Self::DockerArchive => "docker-archive",
            Self::OciArchive(_) => "oci-archive",
            Self::OciLayout(_) => "oci",
        }
    }

    /// The scopes that it is in, the narrowest first, without that of the transport.
    fn scopes(&self) -> Vec<String> {
        match self {
            Self::Registry(reference) => scopes_of_reference(reference),
            Self::DockerArchive | Self::OciArchive(None) => Vec::new(),
            Self::OciArchive(Some(path)) | Self::OciLayout(path) => path
                .ancestors()
                .filter(|path| path.file_name().is_some())
                .map(|path| path.display().to_string())
                .collect(),
        }
    }
}

/// The image, its repository, the namespaces above, the host with its port, and domains without.
fn scopes_of_reference(reference: &Reference) -> Vec<String> {
    let registry = reference.registry();
    let name = format!("{registry}/{}", reference.repository());
    let mut scopes = Vec::new();
    scopes.extend(reference.digest().map(|digest| format!("{name}@{digest}")));
    // With a digest the registry is asked for that, and whether the tag leads there is not looked at.
    if reference.digest().is_none() {
        scopes.extend(reference.tag().map(|tag| format!("{name}:{tag}")));
    }
    let mut rest = name.as_str();
    while let Some((above, _)) = rest.rsplit_once('/') {
        scopes.push(rest.to_owned());
        rest = above;
    }
    scopes.push(rest.to_owned());
    let mut domain = registry.split(':').next().unwrap_or_default();
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes
}

fn parse(bytes: &[u8]) -> anyhow::Result<Document> {
    let document: Document = serde_json::from_slice(bytes)?;
    let named = document.transports.0.values();
    let lists = named.flat_map(|named| named.0.values());
    let empty = lists.chain([&document.default]).any(Vec::is_empty);
    ensure!(!empty, "a list of requirements is empty");
    Ok(document)
}

/// A JSON object in which no key is there twice: of two, readers may take either.
#[derive(Debug)]
struct Unique<T>(BTreeMap<String, T>);

impl<T> Default for Unique<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Unique<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = Unique<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<T>, A::Error> {
                let mut found = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    let shown = quote(&key);
                    if found.insert(key, value).is_some() {
                        return Err(A::Error::custom(format!(
                            "the key '{shown}' is there twice"
                        )));
                    }
                }
                Ok(Unique(found))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> anyhow::Result<Policy> {
        let document = parse(text.as_bytes())?;
        Ok(Policy(Some((PathBuf::from("/p.json"), document))))
    }

    const STRICT: &str = r#"{"default": [{"type": "reject"}], "transports": {
        "docker": {
            "docker.io/library": [{"type": "insecureAcceptAnything"}],
            "docker.io/library/evil": [{"type": "reject"}],
            "docker.io/library/evil:good": [{"type": "insecureAcceptAnything"}],
            "a.example:5000": [{"type": "insecureAcceptAnything"}],
            "*.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}],
            "*.b.example": [{"type": "insecureAcceptAnything"}],
            "both.test": [{"type": "insecureAcceptAnything"}, {"type": "sigstoreSigned", "keyPath": "/k"}]
        },
        "oci-archive": {"/srv/images": [{"type": "insecureAcceptAnything"}]},
        "oci": {"": [{"type": "insecureAcceptAnything"}], "/srv/bad": [{"type": "reject"}]}}}"#;

    const EVIL_GOOD_AT: &str =
        "evil:good@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_narrowest_scope_counts() {
        let policy = policy(STRICT).unwrap();
        for (name, refused) in [
            ("nginx", None),
            (
                "docker.io/team/app",
                Some("rejects images that it does not name"),
            ),
            ("evil", Some("rejects images of 'docker.io/library/evil'")),
            ("evil:good", None),
            (
                EVIL_GOOD_AT,
                Some("rejects images of 'docker.io/library/evil'"),
            ),
            ("evilish", None),
            ("a.example:5000/x", None),
            ("a.example/x", Some("signed ('signedBy')")),
            ("a.example:6000/x", Some("signed ('signedBy')")),
            ("a.b.example/x/y:1", None),
            ("b.example/x", Some("signed ('signedBy')")),
            ("example/x", Some("that it does not name")),
            ("both.test/x", Some("signed ('sigstoreSigned')")),
        ] {
            let reference = name.parse().unwrap();
            let said = policy.check(Origin::Registry(&reference));
            let said = said.err().map(|err| err.to_string());
            match (refused, &said) {
                (None, None) => {}
                (Some(words), Some(said)) if said.contains(words) => {}
                _ => panic!("{name}: {said:?}"),
            }
        }
        let path = Path::new;
        for (origin, taken) in [
            (Origin::DockerArchive, false),
            (Origin::OciArchive(None), false),
            (Origin::OciArchive(Some(path("/srv/images/a.tar"))), true),
            (Origin::OciArchive(Some(path("/srv/imagesx/a.tar"))), false),
            (Origin::OciLayout(path("/srv/good")), true),
            (Origin::OciLayout(path("/srv/bad/x")), false),
        ] {
            assert_eq!(policy.check(origin).is_ok(), taken, "{origin:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        let accept = r#"[{"type": "insecureAcceptAnything"}]"#;
        for (text, says) in [
            ("", "EOF"),
            ("{}", "missing field `default`"),
            (r#"{"default": []}"#, "empty"),
            (r#"{"default": [{}]}"#, "missing field `type`"),
            (r#"{"default": ["reject"]}"#, "invalid type: string"),
            (
                r#"{"default": [{"type": "signedByMe"}]}"#,
                "unknown variant `signedByMe`, expected one of `insecureAcceptAnything`, `reject`",
            ),
            (
                r#"{"default": [{"type": "reject", "not": 1}]}"#,
                "unknown field `not`, there are no fields at line 1",
            ),
            (
                r#"{"default": [{"type": "reject", "type": "x"}]}"#,
                "duplicate field `type`",
            ),
            (
                &format!(r#"{{"default": {accept}, "x": 1}}"#),
                "unknown field `x`",
            ),
            (
                &format!(
                    r#"{{"default": {accept}, "transports": {{"docker": {{"a": {accept}, "a": {accept}}}}}}}"#
                ),
                "'a' is there twice",
            ),
        ] {
            let said = format!("{:#}", policy(text).unwrap_err());
            assert!(said.contains(says), "{text}: {said}");
        }
        let anything = policy(&format!(r#"{{"default": {accept}}}"#)).unwrap();
        anything.check(Origin::DockerArchive).unwrap();
        Policy::default().check(Origin::DockerArchive).unwrap();
    }
}
