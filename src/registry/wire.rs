// SPDX-License-Identifier: Apache-2.0
//! One request, sent and answered: agents, errors of the transport, redirects.
//!
//! A redirect is followed here and not by ureq, so that credentials go only where they belong:
//! every hop is a request of its own, and what is secret is added to those whose origin is that of
//! the registry (threats R10, R11).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use ureq::Body;
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, header};

use super::error::{Failure, Kind, quote};
use super::limits::{ERROR_BYTES_MAX, Limits, REDIRECTS_MAX};
use super::retry::{Trouble, parse_retry_after};
use super::tls::{self, Files, Roots, Verify};
use super::transport::{self, BodyReader, Chosen, OffLimits, Purpose, TooSlow};
use super::url::{Origin, Scheme, Url, is_off_limits, without_query};
use crate::paths::Paths;

/// What is sent with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'p> {
    None,
    Bytes(&'p [u8]),
    File(&'p Path),
}

/// A request, before it is known who answers it.
#[derive(Debug, Clone)]
pub(super) struct Message<'p> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// None of them secret.
    pub(super) fields: Vec<(header::HeaderName, String)>,
    /// The value of `Authorization`, for the origin of `url` alone.
    pub(super) authorization: Option<String>,
    pub(super) payload: Payload<'p>,
    pub(super) purpose: Purpose,
    /// A server named this URL, nobody configured it; and the registry is on this machine or not.
    pub(super) foreign: Option<Chosen>,
}

impl Message<'_> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            fields: Vec::new(),
            authorization: None,
            payload: Payload::None,
            purpose: Purpose::Download,
            foreign: None,
        }
    }
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    pub(super) url: Url,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The value of a field that must be there at most once.
    pub(super) fn field(&self, name: header::HeaderName) -> Result<Option<&str>, Failure> {
        single(self.response.headers(), &name)
    }

    /// The body, which must not be longer than `limit`.
    pub(super) fn bytes(self, limit: u64) -> Result<Vec<u8>, Trouble> {
        let declared = self.response.body().content_length();
        let too_long = || {
            Failure::refused(format!(
                "'{}' sent more than {limit} bytes for a document; tell the registry's operator",
                self.url.origin
            ))
        };
        if declared.is_some_and(|length| length > limit) {
            return Err(too_long().into());
        }
        let too_long = too_long();
        let url = self.url;
        let mut bytes = Vec::new();
        BodyReader::new(self.response.into_body())
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|err| trouble(ureq::Error::from(err), &url))?;
        if bytes.len() as u64 > limit {
            return Err(too_long.into());
        }
        if declared.is_some_and(|length| length != bytes.len() as u64) {
            let message = format!("'{}' broke off in the middle of a document", url.origin);
            return Err(Trouble::passing(Failure::unreachable(message)));
        }
        Ok(bytes)
    }

    /// Reads a short body to its end, so that the connection can be used again.
    pub(super) fn drain(self) {
        let length = self.response.body().content_length();
        if length.is_some_and(|length| length <= ERROR_BYTES_MAX) {
            // A connection that fails here is not used again, which is all there is to it.
            self.bytes(ERROR_BYTES_MAX).ok();
        }
    }

    /// A status that nobody expected, with the server's own words.
    pub(super) fn unexpected(self) -> Failure {
        let status = self.status();
        let origin = self.url.origin.clone();
        let words = self.server_words();
        let said = |what: &str, advice: &str| {
            let words = if words.is_empty() {
                String::new()
            } else {
                format!(": {words}")
            };
            format!(
                "'{origin}' {what} (status {}){words}; {advice}",
                status.as_u16()
            )
        };
        match status.as_u16() {
            404 => Failure::not_found(said("has no such thing", "check the name")),
            401 | 403 => Failure::denied(said("does not permit it", "see 'wharf login'")),
            429 => Failure::unreachable(said("gets too many requests", "wait, or log in")),
            500..=599 => Failure::unreachable(said("is in trouble", "try again later")),
            _ => Failure::refused(said(
                "gave an answer that does not fit",
                "check that it is a registry",
            )),
        }
    }

    /// The first error's code and message (distribution-spec, error codes), else nothing: pages for
    /// browsers are not shown.
    fn server_words(self) -> String {
        #[derive(serde::Deserialize)]
        struct Words {
            errors: Vec<Word>,
        }
        #[derive(serde::Deserialize)]
        struct Word {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(bytes) = self.bytes(ERROR_BYTES_MAX) else {
            return String::new();
        };
        let words: Option<Words> = serde_json::from_slice(&bytes).ok();
        let first = words.and_then(|words| words.errors.into_iter().next());
        first.map_or_else(String::new, |word| {
            let text = format!("{} {}", word.code, word.message);
            quote(&text)
        })
    }
}

/// The value of a field, refused when it is there more than once or is not ASCII (threats R13).
fn single<'h>(
    headers: &'h HeaderMap,
    name: &header::HeaderName,
) -> Result<Option<&'h str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Failure::refused(format!(
            "the server sent two fields '{name}'; tell the registry's operator"
        )));
    }
    first.map_or(Ok(None), |value| {
        let text = value.to_str().map_err(|_| {
            Failure::refused(format!(
                "the server sent a field '{name}' that is not text; tell the registry's operator"
            ))
        });
        text.map(Some)
    })
}

/// How the administrator wants a host to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Manner {
    pub(super) insecure: bool,
    pub(super) ca: Option<std::path::PathBuf>,
    pub(super) client: Option<(std::path::PathBuf, std::path::PathBuf)>,
}

/// Connections to everybody.
#[derive(Debug)]
pub(super) struct Wire {
    paths: Paths,
    pub(super) limits: Limits,
    roots: OnceLock<Result<Roots, String>>,
    agents: Mutex<HashMap<(Origin, Chosen, Purpose, Manner), ureq::Agent>>,
}

impl Wire {
    pub(super) fn new(paths: &Paths, limits: Limits) -> Self {
        Self {
            paths: paths.clone(),
            limits,
            roots: OnceLock::new(),
            agents: Mutex::new(HashMap::new()),
        }
    }

    /// Sends a request to the origin that its URL names, and follows redirects of it.
    pub(super) fn send(&self, message: &Message<'_>, manner: &Manner) -> Result<Answer, Trouble> {
        let home = &message.url.origin;
        let mut url = message.url.clone();
        let mut authorization = message.authorization.as_deref();
        let mut hops = 0;
        loop {
            let is_home = url.origin == *home;
            if !is_home {
                // For good: who sends us back chooses the path.
                authorization = None;
            }
            let chosen = match (message.foreign, is_home, home.is_loopback()) {
                (Some(foreign), _, _) => foreign,
                (None, true, _) => Chosen::Configured,
                (None, false, false) => Chosen::Foreign,
                (None, false, true) => Chosen::ForeignLocal,
            };
            let agent = if is_home {
                self.agent(&url.origin, chosen, message.purpose, manner)?
            } else {
                self.agent(&url.origin, chosen, message.purpose, &Manner::default())?
            };
            let answer = send_once(&agent, message, &url, authorization)?;
            let status = answer.status();
            let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !is_redirect {
                return judge(answer);
            }
            hops += 1;
            if hops > REDIRECTS_MAX {
                return Err(Failure::refused(format!(
                    "it redirected more than {REDIRECTS_MAX} times, last to '{}'; tell the \
                     registry's operator",
                    quote(&url.shown())
                ))
                .into());
            }
            url = redirected(message, &answer)?;
            answer.drain();
        }
    }

    fn agent(
        &self,
        origin: &Origin,
        chosen: Chosen,
        purpose: Purpose,
        manner: &Manner,
    ) -> Result<ureq::Agent, Failure> {
        let key = (origin.clone(), chosen, purpose, manner.clone());
        let lock = || self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = lock().get(&key) {
            return Ok(agent.clone());
        }
        let tls = match origin.scheme {
            Scheme::Https => self.tls(origin, manner)?,
            Scheme::Http => ureq::tls::TlsConfig::default(),
        };
        let proxy = proxy_for(origin)?;
        let agent = transport::agent(&self.limits, tls, proxy, chosen, purpose);
        lock().insert(key, agent.clone());
        Ok(agent)
    }

    fn tls(&self, origin: &Origin, manner: &Manner) -> Result<ureq::tls::TlsConfig, Failure> {
        let roots = self
            .roots
            .get_or_init(|| tls::system_roots().map_err(|err| format!("{err:#}")));
        let roots = roots.as_ref().map_err(|err| {
            Failure::refused(format!("reading the system's trusted certificates: {err}"))
        })?;
        let config = || {
            let with_port = format!("{}:{}", origin.host, origin.port);
            let mut files = Files::find(&self.paths, &with_port)?;
            if files == Files::default() && origin.port == 443 {
                files = Files::find(&self.paths, &origin.host)?;
            }
            files.authorities.extend(manner.ca.clone());
            files.client = manner.client.clone().or(files.client);
            let verify = if manner.insecure {
                Verify::No
            } else {
                Verify::Yes
            };
            files.config(roots, verify)
        };
        config().map_err(|err: anyhow::Error| {
            Failure::refused(format!("preparing TLS for '{origin}': {err:#}"))
        })
    }
}

/// Sends one request and gives the answer, whatever it is.
fn send_once(
    agent: &ureq::Agent,
    message: &Message<'_>,
    url: &Url,
    authorization: Option<&str>,
) -> Result<Answer, Trouble> {
    let mut builder = Request::builder()
        .method(message.method.clone())
        .uri(url.to_string());
    for (name, value) in &message.fields {
        builder = builder.header(name, value);
    }
    if let Some(authorization) = authorization {
        builder = builder.header(header::AUTHORIZATION, authorization);
    }
    let bad_request = |_| Failure::refused("the request cannot be written as HTTP");
    transport::begin_request();
    let sent = match message.payload {
        Payload::None => agent.run(builder.body(()).map_err(bad_request)?),
        Payload::Bytes(bytes) => agent.run(builder.body(bytes).map_err(bad_request)?),
        Payload::File(path) => {
            let file = File::open(path)
                .map_err(|err| Failure::refused(format!("opening '{}': {err}", path.display())))?;
            agent.run(builder.body(file).map_err(bad_request)?)
        }
    };
    let response = sent.map_err(|err| trouble(err, url))?;
    Ok(Answer {
        response,
        url: url.clone(),
    })
}

/// The proxy of the environment; never for this machine itself, as Go and curl have it.
fn proxy_for(origin: &Origin) -> Result<Option<ureq::Proxy>, Failure> {
    if origin.is_loopback() {
        return Ok(None);
    }
    let proxy = ureq::Proxy::try_from_env();
    let is_socks = |proxy: &ureq::Proxy| {
        use ureq::ProxyProtocol::{Socks4, Socks4A, Socks5};
        matches!(proxy.protocol(), Socks4 | Socks4A | Socks5)
    };
    if proxy.as_ref().is_some_and(is_socks) {
        return Err(Failure::refused(
            "the environment names a SOCKS proxy, which is not supported; set HTTPS_PROXY to an \
             HTTP proxy",
        ));
    }
    Ok(proxy)
}

/// Statuses that may pass are trouble; all others are for the caller.
fn judge(answer: Answer) -> Result<Answer, Trouble> {
    let status = answer.status().as_u16();
    let passes = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
    if !passes {
        return Ok(answer);
    }
    let field = answer.field(header::RETRY_AFTER)?;
    let retry_after = field.and_then(|field| parse_retry_after(field, SystemTime::now()));
    Err(Trouble::Passing {
        failure: answer.unexpected(),
        retry_after,
    })
}

/// Where a redirect leads, if it may.
fn redirected(message: &Message<'_>, answer: &Answer) -> Result<Url, Failure> {
    let from = &answer.url;
    if !matches!(message.method, Method::GET | Method::HEAD) {
        return Err(Failure::refused(format!(
            "'{}' redirects an upload, which is not followed; use the address it redirects to",
            from.origin
        )));
    }
    let location = answer.field(header::LOCATION)?.unwrap_or_default();
    let to = from.join(location).map_err(|why| {
        let location = quote(without_query(location));
        Failure::refused(format!(
            "it redirects to '{location}', which {why}; tell the registry's operator"
        ))
    })?;
    let refused = |why: &str| {
        let to = quote(&to.shown());
        Err(Failure::refused(format!("it redirects to '{to}', {why}")))
    };
    if from.origin.scheme == Scheme::Https && to.origin.scheme == Scheme::Http {
        return refused("which is not encrypted; tell the registry's operator");
    }
    if to.origin == message.url.origin {
        return Ok(to);
    }
    let home_is_local = message.url.origin.is_loopback();
    let forbidden = to.origin.address().is_some_and(is_off_limits)
        || (to.origin.is_loopback() && !home_is_local);
    if forbidden {
        return refused(
            "an address of this machine or its neighbourhood; tell the registry's operator",
        );
    }
    Ok(to)
}

/// What an error of the transport means.
pub(super) fn trouble(err: ureq::Error, url: &Url) -> Trouble {
    let origin = &url.origin;
    let passing = |why: String| {
        Trouble::passing(Failure::unreachable(format!(
            "'{origin}' cannot be reached: {why}; check the name and the network"
        )))
    };
    match err {
        ureq::Error::Io(err) => match tls_error(&err) {
            Some(tls) => Trouble::Final(tls_failure(tls, origin)),
            None => passing(quote(&err.to_string())),
        },
        ureq::Error::Rustls(err) => Trouble::Final(tls_failure(&err, origin)),
        ureq::Error::Timeout(what) => passing(format!("no answer in time ({what})")),
        ureq::Error::HostNotFound => passing("there is no such host".to_owned()),
        ureq::Error::ConnectionFailed => passing("no connection".to_owned()),
        ureq::Error::ConnectProxyFailed(why) => {
            passing(format!("the proxy does not connect to it: {}", quote(&why)))
        }
        ureq::Error::Other(other) if other.is::<OffLimits>() => Trouble::Final(Failure::refused(
            format!("a server sent us to '{origin}': {other}; tell the registry's operator"),
        )),
        ureq::Error::Other(other) if other.is::<TooSlow>() => Trouble::passing(
            Failure::unreachable(format!("'{origin}' is too slow: {other}; try again later")),
        ),
        other => Trouble::Final(Failure::refused(format!(
            "'{origin}' does not answer as a registry does: {}; check \
             its address",
            quote(&other.to_string())
        ))),
    }
}

fn tls_error(err: &io::Error) -> Option<&rustls::Error> {
    err.get_ref()?.downcast_ref()
}

fn tls_failure(err: &rustls::Error, origin: &Origin) -> Failure {
    let host = match origin.port {
        443 => origin.host.clone(),
        port => format!("{}:{port}", origin.host),
    };
    match err {
        rustls::Error::InvalidCertificate(_) => Failure::refused(format!(
            "the certificate of '{origin}' is not trusted: {}; put its CA into \
             '/etc/containers/certs.d/{host}/ca.crt', or set 'insecure = true' for it in \
             wharf.toml",
            quote(&err.to_string())
        )),
        rustls::Error::InvalidMessage(_) => Failure::refused(format!(
            "'{origin}' does not speak TLS; set 'insecure = true' for it in wharf.toml to reach \
             it without",
        )),
        _ => Failure::new(
            Kind::Refused,
            format!(
                "no TLS connection to '{origin}': {}; it may want a client certificate, see \
                 'certs.d' in wharf.toml(5)",
                quote(&err.to_string())
            ),
        ),
    }
}
