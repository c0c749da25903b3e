// SPDX-License-Identifier: Apache-2.0
//! A blob as a stream of exactly as many bytes as its descriptor says.
//!
//! A connection that breaks is taken up where it broke, with a `Range`. A server that answers with
//! the whole blob instead, or with a range that was not asked for, is asked for all of it, and what
//! was given already is read again and compared; nothing is ever put together from parts that
//! do not fit (threats R12, R13). The digest is the reader's to compute: it decides.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read};
use std::sync::Arc;
use std::vec;

use ureq::http::{Method, header};

use super::error::{Error, Failure, Kind};
use super::range::ContentRange;
use super::retry::{Trouble, backoff, pause, shown_tries};
use super::session::Session;
use super::token::Scope;
use super::transport::BodyReader;
use super::wire::{Answer, Message, trouble};
use super::{Client, Inner};
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::url::Url;

/// A connection that gave this much was worth it, and does not count as a failed try.
const WORTH_BYTES: u64 = 1 << 20;

/// A blob that is being downloaded.
pub struct Blob {
    inner: Arc<Inner>,
    reference: Reference,
    digest: Digest,
    size: u64,
    session: Arc<Session>,
    /// Places to go on with when this one fails for good.
    others: vec::IntoIter<Arc<Session>>,
    /// Why the mirrors before this place were left, for the error of the last one.
    left: String,
    body: Option<Body>,
    /// Of the first answer, to see that it is still the same blob. Strong ones only.
    tag: Option<String>,
    given: u64,
    /// Over all bytes given, to compare with when they come again. Not for security: a server that
    /// lies consistently is found by the digest.
    seen: DefaultHasher,
    /// Connections that broke since one was worth it.
    broken: u32,
    /// `given` when the last one broke.
    broken_at: u64,
    ranges: Ranges,
}

struct Body {
    reader: BodyReader,
    url: Url,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ranges {
    Ask,
    /// The server gave a wrong one.
    Mistrust,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blob")
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Opens a blob of a repository.
    ///
    /// # Errors
    ///
    /// See [`super::Kind`]. What happens later is an error of the reader, which holds an [`Error`]
    /// ([`Error::of_read`]).
    pub fn blob(&self, reference: &Reference, digest: &Digest, size: u64) -> Result<Blob, Error> {
        let inner = &self.inner;
        let (session, opened) = inner.at_each(reference, |session| {
            let opened =
                super::retry::persist(&inner.wire.limits, session.tries(&inner.wire), || {
                    inner.open(session, digest, size, &Wanted::All)
                })?;
            Ok((Arc::clone(session), opened))
        })?;
        let others = inner.sessions(reference).unwrap_or_default().into_iter();
        let others: Vec<_> = others
            .skip_while(|other| !Arc::ptr_eq(other, &session))
            .skip(1)
            .collect();
        Ok(Blob {
            inner: Arc::clone(inner),
            reference: reference.clone(),
            digest: *digest,
            size,
            session,
            others: others.into_iter(),
            left: String::new(),
            body: Some(opened.body),
            tag: opened.tag,
            given: 0,
            seen: DefaultHasher::new(),
            broken: 0,
            broken_at: 0,
            ranges: Ranges::Ask,
        })
    }
}

/// What to ask for.
enum Wanted {
    All,
    From { first: u64, tag: Option<String> },
}

struct Opened {
    body: Body,
    tag: Option<String>,
    /// The body's first byte in the blob.
    first: u64,
}

impl Inner {
    fn open(
        &self,
        session: &Session,
        digest: &Digest,
        size: u64,
        wanted: &Wanted,
    ) -> Result<Opened, Trouble> {
        let url = session.url(&self.wire, &format!("blobs/{digest}"))?;
        let mut message = Message::new(Method::GET, url);
        if let Wanted::From { first, tag } = wanted {
            message
                .fields
                .push((header::RANGE, format!("bytes={first}-")));
            let tag = tag.iter().map(|tag| (header::IF_RANGE, tag.clone()));
            message.fields.extend(tag);
        }
        let scope = Scope::pull(&session.place.repository);
        let answer = session.send(&self.tools(), &message, &scope)?;
        let first = match (answer.status().as_u16(), wanted) {
            (200, _) => 0,
            (206, Wanted::From { first, tag })
                if is_rest(&answer, *first, size, tag.as_deref()) =>
            {
                *first
            }
            // Once more, for all of it.
            (206 | 416, Wanted::From { .. }) => {
                return self.open(session, digest, size, &Wanted::All);
            }
            (404, _) => {
                return Err(Failure::not_found(format!(
                    "there is no blob {digest}, which the manifest names; the image is not whole \
                     there: push it again"
                ))
                .into());
            }
            _ => return Err(answer.unexpected().into()),
        };
        let length = answer.response.body().content_length();
        if let Some(length) = length.filter(|length| *length != size - first.min(size)) {
            return Err(Failure::refused(format!(
                "it wants to send {length} bytes of blob {digest} where {} are to come; tell the \
                 registry's operator",
                size - first.min(size)
            ))
            .into());
        }
        let tag = entity_tag(&answer);
        let url = answer.url;
        let reader = BodyReader::new(answer.response.into_body());
        Ok(Opened {
            body: Body { reader, url },
            tag,
            first,
        })
    }
}

/// Whether the answer is the rest of the same blob.
fn is_rest(answer: &Answer, first: u64, size: u64, tag: Option<&str>) -> bool {
    let Ok(Some(field)) = answer.field(header::CONTENT_RANGE) else {
        return false;
    };
    let is_rest = ContentRange::parse(field).is_some_and(|range| range.is_rest(first, size));
    let now = entity_tag(answer);
    let is_same = tag.is_none_or(|before| now.is_none_or(|now| now == before));
    is_rest && is_same
}

fn entity_tag(answer: &Answer) -> Option<String> {
    let tag = answer.field(header::ETAG).ok().flatten()?;
    (tag.starts_with('"') && tag.len() <= 256).then(|| tag.to_owned())
}

impl Blob {
    /// The bytes there are altogether.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn error(&self, failure: &Failure) -> io::Error {
        io::Error::other(Error::new(
            self.reference.registry(),
            Some(self.reference.repository()),
            failure,
        ))
    }

    /// Fails when connections have broken too often, everywhere; else waits before the next.
    fn note_broken(&mut self, failure: Failure) -> Result<(), Failure> {
        self.body = None;
        let was_worth_it = self.given - self.broken_at >= WORTH_BYTES;
        if was_worth_it {
            self.broken = 0;
        }
        self.broken_at = self.given;
        self.broken += 1;
        if was_worth_it || self.broken < self.session.tries(&self.inner.wire) {
            tracing::debug!(
                "blob {} at byte {}: {}",
                self.digest,
                self.given,
                failure.message
            );
            pause(backoff(&self.inner.wire.limits, self.broken));
            return Ok(());
        }
        let message = format!(
            "blob {} broke off after {} of {} bytes: {}{}",
            self.digest,
            self.given,
            self.size,
            failure.message,
            shown_tries(self.broken)
        );
        self.leave(Failure { message, ..failure })
    }

    /// Goes on with the next place, when this one has failed for good; without one that is the
    /// error. What was given stays: the digest decides.
    fn leave(&mut self, mut failure: Failure) -> Result<(), Failure> {
        self.body = None;
        let Some(next) = self.others.find(|other| other.gone().is_none()) else {
            failure.message.push_str(&self.left);
            return Err(failure);
        };
        if failure.kind == Kind::Unreachable {
            self.session.note_gone(&failure.message);
        }
        let host = &self.session.place.host;
        tracing::debug!("mirror '{host}': {}", failure.message);
        self.left
            .push_str(&format!("; mirror '{host}': {}", failure.message));
        self.session = next;
        self.broken = 0;
        self.broken_at = self.given;
        self.tag = None;
        self.ranges = Ranges::Ask;
        Ok(())
    }

    /// A body that goes on where the last one ended.
    fn reconnect(&mut self) -> Result<Body, Trouble> {
        let wanted = match self.ranges {
            Ranges::Ask if self.given > 0 => Wanted::From {
                first: self.given,
                tag: self.tag.clone(),
            },
            Ranges::Ask | Ranges::Mistrust => Wanted::All,
        };
        let opened = self
            .inner
            .open(&self.session, &self.digest, self.size, &wanted)?;
        if opened.first == self.given {
            return Ok(opened.body);
        }
        self.ranges = Ranges::Mistrust;
        self.skip(opened.body)
    }

    /// Reads what was given already, and sees that it is the same.
    fn skip(&self, mut body: Body) -> Result<Body, Trouble> {
        let mut seen = DefaultHasher::new();
        let mut left = self.given;
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let part = buffer.get_mut(..most).unwrap_or_default();
            let n = match body.reader.read(part) {
                Ok(0) => return Err(Trouble::passing(broke_off(&body.url))),
                Ok(n) => n,
                Err(err) => return Err(trouble(ureq::Error::from(err), &body.url)),
            };
            seen.write(part.get(..n).unwrap_or_default());
            left -= n as u64;
        }
        if seen.finish() != self.seen.finish() {
            return Err(Failure::refused(format!(
                "it sent other bytes for blob {} the second time; tell the registry's operator, nothing \
                 of it is kept",
                self.digest
            ))
            .into());
        }
        Ok(body)
    }

    /// Sees that nothing comes after the last byte.
    fn finish(&mut self) -> Result<(), Failure> {
        let Some(mut body) = self.body.take() else {
            return Ok(());
        };
        let mut more = [0];
        // That the end itself is missing does not matter: all bytes are there.
        match body.reader.read(&mut more) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(Failure::refused(format!(
                "it sent more than the {} bytes that blob {} has; tell the registry's operator",
                self.size, self.digest
            ))),
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        loop {
            let body = match self.body.take() {
                Some(body) => Ok(body),
                None => self.reconnect(),
            };
            let trouble = match body {
                Err(trouble) => trouble,
                Ok(mut body) => match body.reader.read(buffer) {
                    Ok(0) => Trouble::passing(broke_off(&body.url)),
                    Ok(n) => {
                        self.body = Some(body);
                        return Ok(n);
                    }
                    Err(err) => trouble(ureq::Error::from(err), &body.url),
                },
            };
            match trouble {
                Trouble::Final(failure) => self.leave(failure)?,
                Trouble::Passing { failure, .. } => self.note_broken(failure)?,
            }
        }
    }
}

fn broke_off(url: &Url) -> Failure {
    Failure::unreachable(format!(
        "'{}' closed the connection; try again later",
        url.origin
    ))
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size - self.given;
        if left == 0 {
            self.finish().map_err(|failure| self.error(&failure))?;
            return Ok(0);
        }
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let buffer = buffer.get_mut(..most).unwrap_or_default();
        if buffer.is_empty() {
            return Ok(0);
        }
        let n = self
            .read_some(buffer)
            .map_err(|failure| self.error(&failure))?;
        self.seen.write(buffer.get(..n).unwrap_or_default());
        self.given += n as u64;
        Ok(n)
    }
}
