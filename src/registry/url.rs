// SPDX-License-Identifier: Apache-2.0
//! URLs of registries: an origin, to which credentials are bound, and a path.
//!
//! Parsed strictly; a URL that carries a user name or is not http or https is refused, wherever it
//! comes from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

/// Longest URL that is followed.
const URL_BYTES_MAX: usize = 16 << 10;

/// http or https.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// Scheme, host and port: what a credential is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    /// Lower case; an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl Origin {
    /// The host as an address, when it is one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().ok()
    }

    /// Whether the host is this machine by its name.
    pub(super) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.address().is_some_and(|address| address.is_loopback())
    }

    /// The URL of a path on it, which begins with '/'.
    pub(super) fn at(&self, path: &str) -> Url {
        Url {
            origin: self.clone(),
            path: path.to_owned(),
        }
    }
}

/// An absolute URL without a user name and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) origin: Origin,
    /// Path and query, from the first '/'.
    pub(super) path: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.path)
    }
}

impl Url {
    /// Parses an absolute URL.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("is longer than 16 KiB");
        }
        let uri: Uri = text.parse().map_err(|_| "is not a URL")?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err("is not an http or https URL"),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("carries a user name");
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("names no host");
        }
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("" | ":") => scheme.default_port(),
            Some(_) => authority.port_u16().ok_or("has a bad port")?,
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        Ok(Self {
            origin: Origin { scheme, host, port },
            path,
        })
    }

    /// The URL that a `Location` field at this one means.
    pub(super) fn join(&self, location: &str) -> Result<Self, &'static str> {
        let before_query = location.split(['?', '#']).next().unwrap_or_default();
        if before_query.contains("://") {
            return Self::parse(location);
        }
        let origin = &self.origin;
        let own = self.path.split('?').next().unwrap_or("/");
        if location.starts_with("//") {
            Self::parse(&format!("{}:{location}", origin.scheme))
        } else if location.starts_with('/') {
            Self::parse(&format!("{origin}{location}"))
        } else if location.starts_with('?') {
            Self::parse(&format!("{origin}{own}{location}"))
        } else if location.is_empty() {
            Err("is empty")
        } else {
            let dir = own.rsplit_once('/').map_or("", |(dir, _)| dir);
            Self::parse(&format!("{origin}{dir}/{location}"))
        }
    }

    /// As it may be shown: the query of a signed URL is a secret.
    pub(super) fn shown(&self) -> String {
        format!("{}{}", self.origin, without_query(&self.path))
    }

    /// The same with one more parameter in its query; the value is encoded.
    pub(super) fn with_parameter(&self, key: &str, value: &str) -> Self {
        let separator = if self.path.contains('?') { '&' } else { '?' };
        Self {
            origin: self.origin.clone(),
            path: format!("{}{separator}{key}={}", self.path, encode(value)),
        }
    }
}

/// The part of a URL that is no secret.
pub(super) fn without_query(text: &str) -> &str {
    text.split(['?', '#']).next().unwrap_or_default()
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Whether a server must not be able to send us to this address: the neighbourhood of a cloud's
/// metadata service, and what is no host at all. Private networks are where registries live, so
/// they are not in it; loopback is judged by the caller.
pub(super) fn is_off_limits(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_off_limits_v4(v4),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_off_limits_v4(v4),
            None => {
                v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unicast_link_local()
                    // The metadata service of EC2 is in the unique local range.
                    || v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
            }
        },
    }
}

fn is_off_limits_v4(v4: Ipv4Addr) -> bool {
    v4.is_link_local() || v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_one_form() {
        for (text, expected) in [
            ("https://Example.COM", "https://example.com/"),
            ("https://example.com:443/a?b=c", "https://example.com/a?b=c"),
            ("http://[::1]:5000/v2/", "http://[::1]:5000/v2/"),
            ("https://example.com?x=1", "https://example.com/?x=1"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.to_string(), expected, "{text}");
        }
        for bad in [
            "",
            "/v2/",
            "ftp://example.com/",
            "file:///etc/shadow",
            "https://user:password@example.com/",
            "https://user@example.com/",
            "https:///x",
            "https://example.com:99999/",
            "https://exa mple.com/",
            "https://example.com/\r\nX: y",
        ] {
            assert!(Url::parse(bad).is_err(), "R10 {bad:?}");
        }
    }

    #[test]
    fn locations_are_joined() {
        let base = Url::parse("https://r.example/v2/a/blobs/x?y=1").unwrap();
        for (location, expected) in [
            ("/z", "https://r.example/z"),
            ("//other.example/z", "https://other.example/z"),
            ("http://other.example:1/z", "http://other.example:1/z"),
            ("z?q=/v2//", "https://r.example/v2/a/blobs/z?q=/v2//"),
            ("?q", "https://r.example/v2/a/blobs/x?q"),
            ("/z?u=https://e/", "https://r.example/z?u=https://e/"),
        ] {
            assert_eq!(
                base.join(location).unwrap().to_string(),
                expected,
                "{location}"
            );
        }
        assert!(base.join("").is_err());
        assert_eq!(
            base.with_parameter("digest", "sha256:0&").path,
            "/v2/a/blobs/x?y=1&digest=sha256%3A0%26"
        );
    }

    #[test]
    fn r11_addresses_off_limits() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "fd00:ec2::254",
            "224.0.0.1",
        ] {
            assert!(is_off_limits(address.parse().unwrap()), "{address}");
        }
        for address in [
            "10.0.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "2001:db8::1",
            "fd00::1",
        ] {
            assert!(!is_off_limits(address.parse().unwrap()), "{address}");
        }
    }
}
