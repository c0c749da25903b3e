// SPDX-License-Identifier: Apache-2.0
//! Bearer tokens: asking the server that a registry's challenge names.
//!
//! The challenge is the registry's word, and a word from outside must not decide where a password
//! goes (CVE-2020-15157). Credentials are given only to a token server that is the registry's own
//! host, its parent domain or a host below it, one of the pairs known here, or one named in
//! wharf.toml(5) as `token_realm`; always encrypted, unless the registry itself is configured as
//! insecure and is the same host. Without credentials any https server is asked: there is nothing
//! to lose.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Method, header};

use super::challenge::Challenge;
use super::config::Place;
use super::credentials::Credentials;
use super::error::{Failure, quote};
use super::limits::TOKEN_BYTES_MAX;
use super::retry::Trouble;
use super::transport::Chosen;
use super::url::{Origin, Scheme, Url, encode, is_off_limits};
use super::wire::{Manner, Message, Payload, Wire};

/// How much earlier than it ends a token is not used any more.
pub(super) const TOKEN_MARGIN: Duration = Duration::from_secs(10);

/// What we want to do with repositories.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(pub(super) String);

impl Scope {
    pub(super) fn pull(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull"))
    }

    pub(super) fn push(repository: &str) -> Self {
        Self(format!("repository:{repository}:pull,push"))
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(format!("{} {}", self.0, other.0))
    }
}

/// Registries whose token servers have another name, as they document it.
const KNOWN_REALMS: [(&str, &str); 2] = [
    ("registry-1.docker.io", "auth.docker.io"),
    ("registry.digitalocean.com", "api.digitalocean.com"),
];

/// How long a token is good for when its server does not say (Docker's token specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Longest token, so that a request that carries it is taken by a server.
const TOKEN_TEXT_MAX: usize = 32 << 10;

/// A token and its end.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) until: Instant,
}

/// What a token is asked for with.
pub(super) struct Request<'r> {
    /// The registry that sent the challenge.
    pub(super) home: &'r Origin,
    pub(super) place: &'r Place,
    pub(super) manner: &'r Manner,
    pub(super) challenge: &'r Challenge,
    pub(super) scope: &'r Scope,
}

#[derive(Deserialize)]
struct Answered {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Request<'_> {
    /// Gets a token, for somebody if there are credentials.
    pub(super) fn fetch(
        &self,
        wire: &Wire,
        credentials: Option<&Credentials>,
    ) -> Result<Token, Trouble> {
        let realm = self.realm(credentials)?;
        let service = self.challenge.parameter("service").unwrap_or_default();
        let scope = self.scope();
        let form;
        let mut message = match credentials {
            Some(Credentials::IdentityToken(identity)) => {
                form = format!(
                    "grant_type=refresh_token&client_id=wharf&service={}&scope={}&refresh_token={}",
                    encode(service),
                    encode(&scope),
                    encode(identity)
                );
                let mut message = Message::new(Method::POST, realm);
                let kind = "application/x-www-form-urlencoded".to_owned();
                message.fields.push((header::CONTENT_TYPE, kind));
                message.payload = Payload::Bytes(form.as_bytes());
                message
            }
            Some(Credentials::Password { .. }) | None => {
                let mut url = realm;
                if !service.is_empty() {
                    url = url.with_parameter("service", service);
                }
                for part in scope.split(' ').filter(|part| !part.is_empty()) {
                    url = url.with_parameter("scope", part);
                }
                let mut message = Message::new(Method::GET, url);
                message.authorization = credentials.and_then(Credentials::basic);
                message
            }
        };
        let default = Manner::default();
        let is_home = message.url.origin.host == self.home.host;
        if !is_home && !self.is_configured(&message.url) {
            message.foreign = Some(match self.home.is_loopback() {
                true => Chosen::ForeignLocal,
                false => Chosen::Foreign,
            });
        }
        let manner = if is_home { self.manner } else { &default };
        let answer = wire.send(&message, manner)?;
        let origin = answer.url.origin.clone();
        match answer.status().as_u16() {
            200 => {}
            400 | 401 | 403 => {
                let words = answer.unexpected().message;
                let host = &self.place.host;
                return Err(Failure::denied(match credentials {
                    Some(_) => format!("{words}: it does not take the stored credentials; run 'wharf login {host}' again"),
                    None => format!("{words} as a user: 'wharf login {host}'"),
                })
                .into());
            }
            _ => return Err(answer.unexpected().into()),
        }
        parse(&answer.bytes(TOKEN_BYTES_MAX)?, &origin).map_err(Trouble::Final)
    }

    /// Ours, unless the registry has names of its own kind for what it protects: what it asks for
    /// beyond the repository is not asked of the token server in our name.
    fn scope(&self) -> String {
        match self.challenge.parameter("scope") {
            Some(theirs) if !theirs.is_empty() && !theirs.contains("repository:") => {
                theirs.to_owned()
            }
            _ => self.scope.0.clone(),
        }
    }

    /// The token server, if it may be asked.
    fn realm(&self, credentials: Option<&Credentials>) -> Result<Url, Failure> {
        let text = self.challenge.parameter("realm").unwrap_or_default();
        let shown = quote(text);
        let realm = Url::parse(text).map_err(|why| {
            Failure::refused(format!(
                "its token server is '{shown}', which {why}; tell the registry's operator"
            ))
        })?;
        let host = &realm.origin.host;
        let same_host = *host == self.home.host;
        if realm.origin.scheme == Scheme::Http
            && !(self.home.scheme == Scheme::Http && (same_host || self.is_configured(&realm)))
        {
            return Err(Failure::refused(format!(
                "its token server is '{shown}', which is not encrypted; tell the registry's operator"
            )));
        }
        let is_forbidden = realm.origin.address().is_some_and(is_off_limits)
            || (realm.origin.is_loopback() && !self.home.is_loopback());
        if is_forbidden && !same_host {
            return Err(Failure::refused(format!(
                "its token server is '{shown}', an address of this machine or its neighbourhood; \
                 tell the registry's operator"
            )));
        }
        if credentials.is_some() && !self.is_trusted(&realm) {
            return Err(Failure::refused(format!(
                "its token server is '{shown}', and credentials are not given to another host; if \
                 it is the right one, set 'token_realm = \"{host}\"' for '{}' in wharf.toml",
                self.place.host
            )));
        }
        Ok(realm)
    }

    fn is_configured(&self, realm: &Url) -> bool {
        let Origin { host, port, .. } = &realm.origin;
        let configured = self.place.token_realm.as_deref();
        configured.is_some_and(|name| name == host || name == format!("{host}:{port}"))
    }

    fn is_trusted(&self, realm: &Url) -> bool {
        let (home, host) = (self.home.host.as_str(), realm.origin.host.as_str());
        let is_name = realm.origin.address().is_none() && self.home.address().is_none();
        home == host && is_same_trust(self.home, &realm.origin)
            || (is_name && (is_below(home, host) || is_below(host, home)))
            || KNOWN_REALMS.contains(&(home, host))
            || self.is_configured(realm)
    }
}

/// The same host on another port is another server when somebody else may listen there: on ports
/// that every user can open, and on this machine.
fn is_same_trust(home: &Origin, realm: &Origin) -> bool {
    home.port == realm.port || (realm.port < 1024 && !realm.is_loopback())
}

/// Whether `host` is below `parent`, which is more than a top-level domain.
fn is_below(host: &str, parent: &str) -> bool {
    parent.contains('.')
        && host
            .strip_suffix(parent)
            .is_some_and(|rest| rest.ends_with('.'))
}

fn parse(bytes: &[u8], origin: &Origin) -> Result<Token, Failure> {
    let bad = |why: &str| {
        Failure::refused(format!(
            "the token server '{origin}' gave an answer {why}; tell the registry's operator"
        ))
    };
    let answered: Answered =
        serde_json::from_slice(bytes).map_err(|_| bad("that is not what the protocol has"))?;
    let text = answered
        .token
        .filter(|text| !text.is_empty())
        .or(answered.access_token)
        .ok_or_else(|| bad("without a token"))?;
    // It goes into a header field.
    let is_token = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > TOKEN_TEXT_MAX || !is_token {
        return Err(bad("whose token cannot be sent"));
    }
    let life = answered
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs);
    // A day is more than any of them is good for.
    let life = life
        .min(Duration::from_secs(86_400))
        .saturating_sub(TOKEN_MARGIN);
    Ok(Token {
        text,
        until: Instant::now() + life,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Url::parse(text).unwrap().origin
    }

    #[test]
    fn r10_who_may_see_credentials() {
        for (home, realm, configured, trusted) in [
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                None,
                true,
            ),
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io.evil.x/t",
                None,
                false,
            ),
            ("https://quay.io", "https://quay.io/v2/auth", None, true),
            (
                "https://registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
                None,
                true,
            ),
            (
                "https://r.example.com:5050",
                "https://r.example.com/jwt/auth",
                None,
                true,
            ),
            (
                "https://r.example.com",
                "https://r.example.com:5050/auth",
                None,
                false,
            ),
            (
                "https://r.example.com",
                "https://auth.r.example.com/t",
                None,
                true,
            ),
            (
                "https://r.example.com",
                "https://auth.example.com/t",
                None,
                false,
            ),
            (
                "https://r.example.com",
                "https://auth.example.com/t",
                Some("auth.example.com"),
                true,
            ),
            (
                "https://mine.azurecr.io",
                "https://evil.azurecr.io/t",
                None,
                false,
            ),
            ("https://r.com", "https://com/t", None, false),
            (
                "https://a.evilexample.com",
                "https://example.com/t",
                None,
                false,
            ),
            ("https://10.0.0.1", "https://10.0.0.1/t", None, true),
            ("https://10.0.0.1", "https://0.0.1/t", None, false),
            (
                "http://127.0.0.1:5000",
                "http://127.0.0.1:5001/t",
                None,
                false,
            ),
        ] {
            let realm = Url::parse(realm).unwrap();
            assert_eq!(
                trusts(home, &realm, configured),
                trusted,
                "{home} → {realm}"
            );
        }
    }

    fn trusts(home: &str, realm: &Url, configured: Option<&str>) -> bool {
        let place = Place {
            host: "x".to_owned(),
            repository: "r".to_owned(),
            insecure: false,
            is_mirror: false,
            token_realm: configured.map(str::to_owned),
            ca: None,
            client: None,
        };
        let challenge = Challenge::parse_all("Bearer").unwrap().remove(0);
        let request = Request {
            home: &origin(home),
            place: &place,
            manner: &Manner::default(),
            challenge: &challenge,
            scope: &Scope::pull("r"),
        };
        request.is_trusted(realm)
    }

    #[test]
    fn answers_of_token_servers() {
        let origin = origin("https://a.example");
        let token = parse(br#"{"access_token": "abc", "expires_in": 300}"#, &origin).unwrap();
        assert_eq!(token.text, "abc");
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"token": ""}"#,
            r#"{"token": "a\r\nX: y"}"#,
            r#"{"token": "a", "token": "b"}"#,
            r#"{"token": "a", "expires_in": -1}"#,
            &format!(r#"{{"token": "{}"}}"#, "x".repeat(40_000)),
        ] {
            assert!(parse(bad.as_bytes(), &origin).is_err(), "R4 {bad:.60}");
        }
    }
}
