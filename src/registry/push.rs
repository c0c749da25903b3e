// SPDX-License-Identifier: Apache-2.0
//! Pushing: blobs that the registry does not have yet, then the manifest that names them.
//!
//! An upload is one POST, which may be answered by a mount from another repository, and one PUT of
//! the whole file; an upload that fails is begun anew. The address that the registry gives for it
//! must be its own: neither credentials nor the blob go elsewhere (threats R10).

use std::path::Path;

use ureq::http::{Method, header};

use super::error::{Error, Failure, quote};
use super::manifest::DIGEST_FIELD;
use super::retry::{Trouble, persist};
use super::session::Session;
use super::token::Scope;
use super::transport::Purpose;
use super::url::{Url, without_query};
use super::wire::{Answer, Message, Payload};
use super::{Client, Inner};
use crate::digest::Digest;
use crate::reference::Reference;

/// What became of a blob that was to be pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// The repository had it.
    Present,
    /// Another repository of the registry had it, and now this one has it too.
    Mounted,
    /// It was sent.
    Uploaded,
}

impl Client {
    /// Brings a blob into a repository; `file` has its bytes.
    ///
    /// # Errors
    ///
    /// See [`super::Kind`].
    pub fn push_blob(
        &self,
        reference: &Reference,
        digest: &Digest,
        file: &Path,
    ) -> Result<Pushed, Error> {
        let inner = &self.inner;
        inner.at_registry(reference, |session| {
            let pushed = inner.push_blob_to(session, digest, file)?;
            inner.note(&session.place, digest);
            Ok(pushed)
        })
    }

    /// Puts a manifest or index under the tag of a reference, or under its digest.
    ///
    /// # Errors
    ///
    /// See [`super::Kind`].
    pub fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let inner = &self.inner;
        inner.at_registry(reference, |session| {
            let name = match reference.tag() {
                Some(tag) => tag.to_owned(),
                None => Digest::of(bytes).to_string(),
            };
            inner.push_manifest_to(session, &name, media_type, bytes)
        })
    }
}

impl Inner {
    /// Mirrors get what the registry has; nothing is pushed to them.
    fn at_registry<T>(
        &self,
        reference: &Reference,
        act: impl FnOnce(&Session) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let done = self.sessions(reference).and_then(|sessions| {
            let session = sessions.last();
            act(session.ok_or_else(|| Failure::refused("no place is configured for it"))?)
        });
        done.map_err(|failure| {
            Error::new(reference.registry(), Some(reference.repository()), &failure)
        })
    }

    fn push_blob_to(
        &self,
        session: &Session,
        digest: &Digest,
        file: &Path,
    ) -> Result<Pushed, Failure> {
        let scope = Scope::push(&session.place.repository);
        let url = session.url(&self.wire, &format!("blobs/{digest}"))?;
        let message = Message::new(Method::HEAD, url);
        let answer = session.persist(&self.tools(), &message, &scope)?;
        match answer.status().as_u16() {
            200 => return Ok(Pushed::Present),
            404 => {}
            _ => return Err(answer.unexpected()),
        }
        persist(&self.wire.limits, session.tries(&self.wire), || {
            self.upload(session, digest, file, &scope)
        })
    }

    fn upload(
        &self,
        session: &Session,
        digest: &Digest,
        file: &Path,
        scope: &Scope,
    ) -> Result<Pushed, Trouble> {
        let mut url = session.url(&self.wire, "blobs/uploads/")?;
        let mut scope = scope.clone();
        if let Some(other) = self.known_elsewhere(&session.place, digest) {
            url = url
                .with_parameter("mount", &digest.to_string())
                .with_parameter("from", &other);
            scope = scope.and(&Scope::pull(&other));
        }
        let mut message = Message::new(Method::POST, url);
        message.payload = Payload::Bytes(&[]);
        let answer = session.send(&self.tools(), &message, &scope)?;
        match answer.status().as_u16() {
            201 => return Ok(Pushed::Mounted),
            202 => {}
            _ => return Err(answer.unexpected().into()),
        }
        let location = upload_location(&answer)?;
        let mut message = Message::new(
            Method::PUT,
            location.with_parameter("digest", &digest.to_string()),
        );
        message
            .fields
            .push((header::CONTENT_TYPE, "application/octet-stream".to_owned()));
        message.payload = Payload::File(file);
        message.purpose = Purpose::Upload;
        let answer = session.send(&self.tools(), &message, &scope)?;
        match answer.status().as_u16() {
            201 => {}
            _ => return Err(answer.unexpected().into()),
        }
        check_digest(&answer, digest)?;
        Ok(Pushed::Uploaded)
    }

    fn push_manifest_to(
        &self,
        session: &Session,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let url = session.url(&self.wire, &format!("manifests/{name}"))?;
        let mut message = Message::new(Method::PUT, url);
        message
            .fields
            .push((header::CONTENT_TYPE, media_type.to_owned()));
        message.payload = Payload::Bytes(bytes);
        message.purpose = Purpose::Upload;
        let scope = Scope::push(&session.place.repository);
        let answer = session.persist(&self.tools(), &message, &scope)?;
        match answer.status().as_u16() {
            201 => check_digest(&answer, &Digest::of(bytes)),
            _ => Err(answer.unexpected()),
        }
    }
}

/// Where to send the blob: on the registry itself.
fn upload_location(answer: &Answer) -> Result<Url, Failure> {
    let from = &answer.url;
    let location = answer.field(header::LOCATION)?.unwrap_or_default();
    let url = from.join(location).map_err(|why| {
        let location = quote(without_query(location));
        Failure::refused(format!(
            "it wants the upload at '{location}', which {why}; tell the registry's operator"
        ))
    })?;
    if url.origin != from.origin {
        return Err(Failure::refused(format!(
            "it wants the upload at '{}' and not at '{}', where it is reached; set the registry's \
             own address in its configuration",
            quote(&url.origin.to_string()),
            from.origin
        )));
    }
    Ok(url)
}

/// What the registry says it has now must be what it was sent.
fn check_digest(answer: &Answer, digest: &Digest) -> Result<(), Failure> {
    match answer.field(DIGEST_FIELD)? {
        Some(field) if field != digest.to_string() => Err(Failure::refused(format!(
            "it was sent {digest} and says that it has '{}'; tell the registry's operator",
            quote(field)
        ))),
        _ => Ok(()),
    }
}
