// SPDX-License-Identifier: Apache-2.0
//! One place (a registry or a mirror, and a repository on it): requests with who we are.
//!
//! The first request goes without credentials; the registry's challenge says what it wants. A
//! request is answered with 401 at most twice: once to be told, or because a token ran out, and
//! then it is an error. Tokens are kept in memory, per repository and action.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use ureq::http::{Method, header};

use super::challenge::Challenge;
use super::config::Place;
use super::credentials::{Credentials, Files};
use super::error::{Failure, quote};
use super::retry::{Trouble, persist};
use super::token;
use super::token::Scope;
use super::url::{Origin, Url};
use super::wire::{Answer, Manner, Message, Wire};

/// The host that Docker's registry has.
const DOCKER_HOST: &str = "registry-1.docker.io";

/// What to show for one scope, and until when.
#[derive(Clone)]
struct Pass {
    authorization: String,
    until: Option<Instant>,
}

/// A place and what is known of it.
pub(super) struct Session {
    pub(super) place: Place,
    manner: Manner,
    origin: OnceLock<Origin>,
    /// Read when first asked for.
    credentials: OnceLock<Result<Option<Credentials>, String>>,
    passes: Mutex<HashMap<Scope, Pass>>,
    /// Why a mirror is not asked any more.
    gone: OnceLock<String>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Session").field(&self.place).finish()
    }
}

impl Session {
    pub(super) fn new(place: Place) -> Self {
        Self {
            manner: Manner {
                insecure: place.insecure,
                ca: place.ca.clone(),
                client: place.client.clone(),
            },
            place,
            origin: OnceLock::new(),
            credentials: OnceLock::new(),
            passes: Mutex::new(HashMap::new()),
            gone: OnceLock::new(),
        }
    }

    /// One with credentials that are not in a file yet.
    pub(super) fn with_credentials(place: Place, credentials: Credentials) -> Self {
        let session = Self::new(place);
        session.credentials.get_or_init(|| Ok(Some(credentials)));
        session
    }

    /// The URL of something in the repository, such as `manifests/1.0`.
    pub(super) fn url(&self, wire: &Wire, rest: &str) -> Result<Url, Failure> {
        let repository = &self.place.repository;
        Ok(self.origin(wire)?.at(&format!("/v2/{repository}/{rest}")))
    }

    /// Scheme, host and port. https, unless the place is configured as insecure and does not speak
    /// TLS at all, which is found out by asking once.
    pub(super) fn origin(&self, wire: &Wire) -> Result<&Origin, Failure> {
        if let Some(origin) = self.origin.get() {
            return Ok(origin);
        }
        let host = match self.place.host.as_str() {
            "docker.io" => DOCKER_HOST,
            other => other,
        };
        let parse = |scheme: &str| {
            let url = Url::parse(&format!("{scheme}://{host}/"));
            url.map(|url| url.origin)
                .map_err(|why| Failure::refused(format!("'{}' {why}", quote(host))))
        };
        let secure = parse("https")?;
        if !self.place.insecure {
            return Ok(self.origin.get_or_init(|| secure));
        }
        let plain = parse("http")?;
        let origin = persist(&wire.limits, self.tries(wire), || {
            let probe = |origin: &Origin| {
                let message = Message::new(Method::GET, origin.at("/v2/"));
                wire.send(&message, &self.manner).map(Answer::drain)
            };
            match probe(&secure) {
                Ok(()) => Ok(secure.clone()),
                // It does not speak TLS, so what is wrong without is what is wrong.
                Err(Trouble::Final(_)) => probe(&plain).map(|()| plain.clone()),
                // Some that do not speak TLS say nothing and close.
                Err(passing) => probe(&plain).map(|()| plain.clone()).map_err(|_| passing),
            }
        })?;
        Ok(self.origin.get_or_init(|| origin))
    }

    /// Sends a request, with who we are if the registry wants to know.
    pub(super) fn send(
        &self,
        client: &Tools<'_>,
        message: &Message<'_>,
        scope: &Scope,
    ) -> Result<Answer, Trouble> {
        let origin = &message.url.origin;
        let is_ours = Some(origin) == self.origin.get();
        let mut message = message.clone();
        message.authorization = if is_ours { self.pass(scope) } else { None };
        let answer = client.wire.send(&message, &self.manner)?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        if answer.url.origin != *origin || !is_ours {
            return Err(Failure::denied(format!(
                "'{}', to which it redirects, wants credentials; they are not given to another host",
                answer.url.origin
            ))
            .into());
        }
        let challenges = challenges(&answer)?;
        answer.drain();
        let authorization = self.authenticate(client, origin, &challenges, scope)?;
        message.authorization = Some(authorization);
        let answer = client.wire.send(&message, &self.manner)?;
        if answer.status() == 401 {
            self.lock().remove(scope);
            return Err(self.still_denied(client, answer).into());
        }
        Ok(answer)
    }

    fn still_denied(&self, client: &Tools<'_>, answer: Answer) -> Failure {
        let words = answer.unexpected().message;
        let host = &self.place.host;
        let advice = match self.credentials(client) {
            Ok(Some(_)) => format!("check the name, or 'wharf login {host}' as somebody who may"),
            _ => format!("check the name, or 'wharf login {host}'"),
        };
        Failure::denied(words.replace("see 'wharf login'", &advice))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Scope, Pass>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, scope: &Scope) -> Option<String> {
        let mut passes = self.lock();
        let pass = passes.get(scope)?;
        if pass.until.is_some_and(|until| until <= Instant::now()) {
            passes.remove(scope);
            return None;
        }
        Some(pass.authorization.clone())
    }

    /// Does what the challenges of a 401 ask for; returns what to show.
    fn authenticate(
        &self,
        client: &Tools<'_>,
        home: &Origin,
        challenges: &[Challenge],
        scope: &Scope,
    ) -> Result<String, Trouble> {
        let find = |scheme: &str| {
            challenges
                .iter()
                .find(|challenge| challenge.scheme == scheme)
        };
        let credentials = self.credentials(client)?;
        let pass = if let Some(challenge) = find("bearer") {
            let request = token::Request {
                home,
                place: &self.place,
                manner: &self.manner,
                challenge,
                scope,
            };
            let token = request.fetch(client.wire, credentials.as_ref())?;
            Pass {
                authorization: format!("Bearer {}", token.text),
                until: Some(token.until),
            }
        } else if find("basic").is_some() {
            let host = &self.place.host;
            let basic = credentials.as_ref().and_then(Credentials::basic);
            let authorization = basic.ok_or_else(|| {
                Failure::denied(format!("it wants a user name; run 'wharf login {host}'"))
            })?;
            Pass {
                authorization,
                until: None,
            }
        } else {
            let offered: Vec<String> = challenges.iter().map(|c| quote(&c.scheme)).collect();
            return Err(Failure::denied(format!(
                "it wants to know who we are in a way that is not supported ({}); wharf knows \
                 Basic and Bearer",
                if offered.is_empty() {
                    "it does not say how".to_owned()
                } else {
                    offered.join(", ")
                }
            ))
            .into());
        };
        let authorization = pass.authorization.clone();
        self.lock().insert(scope.clone(), pass);
        Ok(authorization)
    }

    /// Who we are here, if anybody.
    pub(super) fn credentials(&self, client: &Tools<'_>) -> Result<Option<Credentials>, Failure> {
        let Place {
            host, repository, ..
        } = &self.place;
        let found = self.credentials.get_or_init(|| {
            let found = client.files.find(host, repository);
            found.map_err(|err| format!("{err:#}"))
        });
        found.clone().map_err(Failure::refused)
    }

    /// Sends until there is an answer that is not trouble.
    pub(super) fn persist(
        &self,
        client: &Tools<'_>,
        message: &Message<'_>,
        scope: &Scope,
    ) -> Result<Answer, Failure> {
        persist(&client.wire.limits, self.tries(client.wire), || {
            self.send(client, message, scope)
        })
    }

    /// Why this mirror is passed over, once it could not be reached: each further request would
    /// wait as long again.
    pub(super) fn gone(&self) -> Option<&str> {
        self.gone.get().map(String::as_str)
    }

    pub(super) fn note_gone(&self, why: &str) {
        self.gone.get_or_init(|| why.to_owned());
    }

    /// A mirror that fails is passed over at once: the registry itself is there.
    pub(super) fn tries(&self, wire: &Wire) -> u32 {
        if self.place.is_mirror {
            1
        } else {
            wire.limits.tries
        }
    }
}

/// The challenges of an answer; all of them must be understood.
fn challenges(answer: &Answer) -> Result<Vec<Challenge>, Failure> {
    let mut challenges = Vec::new();
    for field in answer.response.headers().get_all(header::WWW_AUTHENTICATE) {
        // What is not text is no challenge either.
        let text = field.to_str().unwrap_or("\u{1}");
        let found = Challenge::parse_all(text)
            .map_err(|err| Failure::refused(format!("{err}; tell the registry's operator")))?;
        challenges.extend(found);
    }
    Ok(challenges)
}

/// What sessions share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tools<'c> {
    pub(super) wire: &'c Wire,
    pub(super) files: &'c Files,
}
