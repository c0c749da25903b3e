// SPDX-License-Identifier: Apache-2.0
//! Registries: the distribution specification's protocol over HTTP, with credentials, TLS,
//! mirrors and what hostile or broken servers make of them (threats R1 to R18).
//!
//! Gives and takes bytes and streams; what a manifest means is `image`'s part. Nothing is cached
//! on disk, and no lock is held while a server is waited for. docs/registries.md has the rules.

pub mod challenge;
pub mod credentials;
pub mod limits;
pub mod policy;
pub mod range;

mod blob;
mod config;
mod error;
mod manifest;
mod push;
mod retry;
mod session;
mod tls;
mod token;
mod transport;
mod url;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, anyhow, ensure};

pub use self::blob::Blob;
pub use self::error::{Error, Kind};
pub use self::limits::Limits;
pub use self::manifest::Fetched;
pub use self::push::Pushed;
pub use self::retry::parse_retry_after;

use self::config::Config;
use self::credentials::{Credentials, Files};
use self::error::Failure;
use self::policy::{Origin, Policy};
use self::session::{Session, Tools};
use self::wire::Wire;
use crate::digest::Digest;
use crate::paths::Paths;
use crate::reference::Reference;
use crate::settings::Settings;

/// A client of every registry; cheap to clone, used from several threads at once.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    paths: Paths,
    settings: Settings,
    /// Read when first needed.
    config: OnceLock<Result<Config, String>>,
    wire: Wire,
    files: Files,
    sessions: Mutex<HashMap<config::Place, Arc<Session>>>,
    /// By host: a repository that has the blob, to mount it from.
    known: Mutex<HashMap<(String, Digest), String>>,
}

impl Client {
    /// A client with the configuration of this machine, which is read when it is needed.
    ///
    /// # Errors
    ///
    /// None yet: what is wrong with a file of configuration is said by whoever needs it.
    pub fn new(paths: &Paths, settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self::with_limits(paths, settings, Limits::default()))
    }

    /// The same with other durations and counts.
    pub fn with_limits(paths: &Paths, settings: &Settings, limits: Limits) -> Self {
        Self {
            inner: Arc::new(Inner {
                paths: paths.clone(),
                settings: settings.clone(),
                config: OnceLock::new(),
                wire: Wire::new(paths, limits),
                files: Files::of(paths, limits.helper),
                sessions: Mutex::new(HashMap::new()),
                known: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// What `text` can mean, in the order in which to look: a name with a registry means itself, a
    /// short one the same repository on each registry of the search list. The caller tells which
    /// one it took.
    ///
    /// # Errors
    ///
    /// Not a reference; a short name without a search list; a bad file of configuration.
    pub fn candidates(&self, text: &str) -> anyhow::Result<Vec<Reference>> {
        if !Reference::is_short(text) {
            return Ok(vec![text.parse()?]);
        }
        let config = self
            .inner
            .config()
            .map_err(|failure| anyhow!(failure.message))?;
        let search = config.search();
        ensure!(
            !search.is_empty(),
            "'{}' names no registry and the search list is empty; write the registry, or set \
             'search' in wharf.toml",
            text.escape_debug()
        );
        let on = |registry: &String| {
            let full: Reference = format!("{registry}/{text}").parse().with_context(|| {
                format!(
                    "looking in '{}' of the search list",
                    registry.escape_debug()
                )
            })?;
            Ok(full)
        };
        search.iter().map(on).collect()
    }

    /// Asks the machine's policy whether an image of this name may be pulled. Nothing else here does.
    ///
    /// # Errors
    ///
    /// [`Kind::Refused`] when it may not, or the policy cannot be read.
    pub fn permit(&self, reference: &Reference) -> Result<(), Error> {
        let policy = Policy::load(&self.inner.paths);
        let permitted = policy.and_then(|policy| policy.check(Origin::Registry(reference)));
        permitted.map_err(|err| {
            let failure = Failure::refused(format!("{err:#}"));
            Error::new(reference.registry(), Some(reference.repository()), &failure)
        })
    }

    /// Tells the client that a repository has a blob, so that a push to another repository of the
    /// same registry can mount it.
    pub fn note_blob(&self, reference: &Reference, digest: &Digest) {
        if let Ok(sessions) = self.inner.sessions(reference)
            && let Some(session) = sessions.last()
        {
            self.inner.note(&session.place, digest);
        }
    }

    /// Asks a registry whether it takes these credentials.
    ///
    /// # Errors
    ///
    /// [`Kind::Denied`] when it does not.
    pub fn verify(&self, registry: &str, credentials: &Credentials) -> Result<(), Error> {
        let inner = &self.inner;
        let place = inner.config().and_then(|config| config.registry(registry));
        place
            .and_then(|place| inner.verify(&Session::with_credentials(place, credentials.clone())))
            .map_err(|failure| Error::new(registry, None, &failure))
    }

    /// Asks a registry whether it takes the credentials that are stored for it.
    ///
    /// # Errors
    ///
    /// [`Kind::Denied`] when it does not, or there are none.
    pub fn verify_stored(&self, registry: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let place = inner.config().and_then(|config| config.registry(registry));
        place
            .and_then(|place| {
                let session = Session::new(place);
                if session.credentials(&inner.tools())?.is_none() {
                    return Err(Failure::denied(format!(
                        "there are no credentials for it; run 'wharf login {registry}'"
                    )));
                }
                inner.verify(&session)
            })
            .map_err(|failure| Error::new(registry, None, &failure))
    }
}

impl Inner {
    fn config(&self) -> Result<&Config, Failure> {
        let config = self.config.get_or_init(|| {
            Config::load(&self.paths, &self.settings).map_err(|err| format!("{err:#}"))
        });
        config.as_ref().map_err(|err| Failure::refused(err.clone()))
    }

    fn tools(&self) -> Tools<'_> {
        Tools {
            wire: &self.wire,
            files: &self.files,
        }
    }

    /// The places to look for a reference in, mirrors first.
    fn sessions(&self, reference: &Reference) -> Result<Vec<Arc<Session>>, Failure> {
        let places = self.config()?.places(reference)?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = |place: config::Place| {
            let new = || Arc::new(Session::new(place.clone()));
            Arc::clone(sessions.entry(place.clone()).or_insert_with(new))
        };
        Ok(places.into_iter().map(session).collect())
    }

    /// Tries one place after the other; the last one's failure is told, and why the others failed.
    fn at_each<T>(
        &self,
        reference: &Reference,
        mut attempt: impl FnMut(&Arc<Session>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let error = |failure: &Failure| {
            Error::new(reference.registry(), Some(reference.repository()), failure)
        };
        let sessions = self
            .sessions(reference)
            .map_err(|failure| error(&failure))?;
        let mut mirrors = String::new();
        for session in &sessions {
            let attempted = match session.gone() {
                Some(why) => Err(Failure::unreachable(why)),
                None => attempt(session),
            };
            match attempted {
                Ok(value) => return Ok(value),
                Err(failure) if session.place.is_mirror => {
                    if failure.kind == Kind::Unreachable {
                        session.note_gone(&failure.message);
                    }
                    tracing::debug!("mirror '{}': {}", session.place.host, failure.message);
                    mirrors.push_str(&format!(
                        "; mirror '{}': {}",
                        session.place.host, failure.message
                    ));
                }
                Err(mut failure) => {
                    failure.message.push_str(&mirrors);
                    return Err(error(&failure));
                }
            }
        }
        Err(error(&Failure::refused("no place is configured for it")))
    }

    fn note(&self, place: &config::Place, digest: &Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((place.host.clone(), *digest), place.repository.clone());
    }

    fn known_elsewhere(&self, place: &config::Place, digest: &Digest) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let repository = known.get(&(place.host.clone(), *digest))?;
        (*repository != place.repository).then(|| repository.clone())
    }
}
