// SPDX-License-Identifier: Apache-2.0
//! Manifests and indexes: fetched whole, bounded, and verified before anybody sees them.

use serde::Deserialize;
use serde::de::IgnoredAny;
use ureq::http::{Method, header};

use super::error::{Error, Failure, quote};
use super::limits::MANIFEST_BYTES_MAX;
use super::session::Session;
use super::token::Scope;
use super::wire::{Answer, Message};
use super::{Client, Inner};
use crate::digest::Digest;
use crate::reference::Reference;

/// What we take. Schema 1 is not among it.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// The registry's word for the digest of what it sends.
pub(super) const DIGEST_FIELD: header::HeaderName =
    header::HeaderName::from_static("docker-content-digest");

/// A manifest or an index, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Exactly the bytes that have the digest.
    pub bytes: Vec<u8>,
    /// What the registry calls it, the same as what it calls itself; empty when neither says.
    pub media_type: String,
    /// Of the bytes, computed here.
    pub digest: Digest,
}

impl Client {
    /// Fetches the manifest or index of a reference: by digest if it has one, else by tag.
    ///
    /// # Errors
    ///
    /// See [`super::Kind`]. A body that does not have the digest asked for, or not the one that the
    /// registry says it has, is refused.
    pub fn manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        let inner = &self.inner;
        inner.at_each(reference, |session| inner.manifest_at(session, reference))
    }

    /// The digest that a reference has on the registry now.
    ///
    /// # Errors
    ///
    /// See [`super::Kind`].
    pub fn digest(&self, reference: &Reference) -> Result<Digest, Error> {
        let inner = &self.inner;
        inner.at_each(reference, |session| inner.digest_at(session, reference))
    }
}

impl Inner {
    fn ask(
        &self,
        session: &Session,
        reference: &Reference,
        method: Method,
    ) -> Result<Answer, Failure> {
        let url = session.url(&self.wire, &format!("manifests/{}", wanted(reference)))?;
        let mut message = Message::new(method, url);
        message.fields.push((header::ACCEPT, ACCEPT.to_owned()));
        let scope = Scope::pull(&session.place.repository);
        let answer = session.persist(&self.tools(), &message, &scope)?;
        match answer.status().as_u16() {
            200 => Ok(answer),
            404 => Err(Failure::not_found(format!(
                "there is no manifest '{}'; check the name and the tag",
                wanted(reference)
            ))),
            _ => Err(answer.unexpected()),
        }
    }

    fn manifest_at(&self, session: &Session, reference: &Reference) -> Result<Fetched, Failure> {
        // What breaks in the middle of the body is fetched again as a whole.
        let tries = session.tries(&self.wire);
        let (answer_type, claimed, bytes) =
            super::retry::persist(&self.wire.limits, tries, || {
                let answer = self.ask(session, reference, Method::GET)?;
                let answer_type = answer.field(header::CONTENT_TYPE)?.unwrap_or_default();
                let answer_type = essence(answer_type).to_owned();
                let claimed = claimed_digest(&answer)?;
                Ok((answer_type, claimed, answer.bytes(MANIFEST_BYTES_MAX)?))
            })?;
        let digest = Digest::of(&bytes);
        let expected = reference.digest().copied().or(claimed);
        for expected in [expected, claimed].into_iter().flatten() {
            if digest != expected {
                return Err(Failure::refused(format!(
                    "it sent a manifest with the digest {digest} where {expected} was to be sent; \
                     tell the registry's operator, nothing was stored"
                )));
            }
        }
        let media_type = media_type(&answer_type, &bytes)?;
        Ok(Fetched {
            bytes,
            media_type,
            digest,
        })
    }

    fn digest_at(&self, session: &Session, reference: &Reference) -> Result<Digest, Failure> {
        if let Ok(answer) = self.ask(session, reference, Method::HEAD)
            && let Some(claimed) = claimed_digest(&answer)?
        {
            return Ok(claimed);
        }
        // HEAD is optional in old registries and says little in its errors: GET tells.
        self.manifest_at(session, reference)
            .map(|fetched| fetched.digest)
    }

    /// Does what `docker login` does: a request that needs credentials where any do.
    pub(super) fn verify(&self, session: &Session) -> Result<(), Failure> {
        let url = session.origin(&self.wire)?.at("/v2/");
        let message = Message::new(Method::GET, url);
        let scope = Scope(String::new());
        let answer = session.persist(&self.tools(), &message, &scope)?;
        if answer.status() == 200 {
            return Ok(());
        }
        Err(answer.unexpected())
    }
}

/// The digest, else the tag: each is a component of a path by its grammar.
fn wanted(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    }
}

fn claimed_digest(answer: &Answer) -> Result<Option<Digest>, Failure> {
    let Some(field) = answer.field(DIGEST_FIELD)? else {
        return Ok(None);
    };
    let digest = field.parse().map_err(|_| {
        Failure::refused(format!(
            "it says that the digest is '{}', which is none; tell the registry's operator",
            quote(field)
        ))
    });
    digest.map(Some)
}

/// A media type without its parameters.
fn essence(field: &str) -> &str {
    field.split(';').next().unwrap_or_default().trim()
}

/// What the document is, refused when the server and the document do not agree (CVE-2021-41190).
fn media_type(answer_type: &str, bytes: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
        layers: Option<IgnoredAny>,
        manifests: Option<IgnoredAny>,
    }
    let outline: Outline = serde_json::from_slice(bytes).map_err(|err| {
        Failure::refused(format!(
            "it sent a manifest that is not one (line {} column {}); tell the registry's operator",
            err.line(),
            err.column()
        ))
    })?;
    if outline.layers.is_some() && outline.manifests.is_some() {
        return Err(Failure::refused(
            "it sent a document that is both a manifest and an index; it cannot be used",
        ));
    }
    // What servers say that do not know what they have.
    let says_nothing = matches!(
        answer_type,
        "" | "application/json" | "application/octet-stream" | "text/plain"
    );
    match outline.media_type {
        Some(own) if !says_nothing && own != answer_type => Err(Failure::refused(format!(
            "it sent a manifest of type '{}' as '{}'; tell the registry's operator",
            quote(&own),
            quote(answer_type)
        ))),
        Some(own) => Ok(own),
        None if says_nothing => Ok(String::new()),
        None => Ok(answer_type.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r6_types_must_agree() {
        for (answer, body, expected) in [
            ("a/b", r#"{"mediaType": "a/b"}"#, Some("a/b")),
            ("a/b", "{}", Some("a/b")),
            ("", r#"{"mediaType": "a/b"}"#, Some("a/b")),
            ("text/plain", "{}", Some("")),
            ("a/c", r#"{"mediaType": "a/b"}"#, None),
            ("a/b", r#"{"layers": [], "manifests": []}"#, None),
            ("a/b", r#"{"mediaType": "a/b", "mediaType": "a/b"}"#, None),
            ("a/b", "<html>", None),
            ("a/b", "", None),
        ] {
            let found = media_type(answer, body.as_bytes()).ok();
            assert_eq!(found.as_deref(), expected, "{answer} {body}");
        }
    }
}
