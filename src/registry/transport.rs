// SPDX-License-Identifier: Apache-2.0
//! Connections: a resolver that a server cannot point at this machine's neighbourhood, and a
//! transport that fails when bytes come too slowly.
//!
//! The pace is measured below TLS, since one TLS record sent a byte at a time would keep a reader
//! above it waiting for hours (hostile-inputs R12). Only time spent waiting counts: a slow reader,
//! such as a disk, is not the server's fault.

use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, RustlsConnector,
    TcpConnector, Transport,
};

use super::limits::{HEADER_BYTES_MAX, Limits};
use super::url::is_off_limits;

/// Who chose the address of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Chosen {
    /// The administrator or the user.
    Configured,
    /// A server, by a redirect or a token realm.
    Foreign,
    /// A server on this machine, which may name others on it.
    ForeignLocal,
}

/// What a connection is mainly for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// Getting something: answers come soon.
    Download,
    /// An answer may take as long as the server needs to check what it was sent.
    Upload,
}

/// A server sent us where we do not go.
#[derive(Debug, thiserror::Error)]
#[error("its address is one of this machine or its neighbourhood")]
pub(super) struct OffLimits;

/// The server sends less than the slowest pace we accept.
#[derive(Debug, thiserror::Error)]
#[error("it sends less than {bytes} bytes in {} s", window.as_secs_f32())]
pub(super) struct TooSlow {
    bytes: u64,
    window: Duration,
}

/// An agent that keeps connections, follows no redirect and reads no environment but the proxy's.
pub(super) fn agent(
    limits: &Limits,
    tls: ureq::tls::TlsConfig,
    proxy: Option<ureq::Proxy>,
    chosen: Chosen,
    purpose: Purpose,
) -> ureq::Agent {
    let (respond, idle, window) = match purpose {
        Purpose::Download => (limits.respond, limits.idle, limits.pace_window),
        Purpose::Upload => (limits.settle, limits.settle, limits.settle),
    };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(proxy)
        .tls_config(tls)
        .user_agent(concat!("wharf/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(HEADER_BYTES_MAX)
        .timeout_resolve(Some(limits.resolve))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.respond))
        .timeout_recv_response(Some(respond))
        .timeout_per_read(Some(idle))
        .timeout_per_write(Some(limits.idle))
        .build();
    let connector = ()
        .chain(ConnectProxyConnector::default())
        .chain(TcpConnector::default())
        .chain(PaceConnector {
            window,
            bytes: limits.pace_bytes,
        })
        .chain(RustlsConnector::default());
    let resolver = GuardedResolver {
        inner: DefaultResolver::default(),
        chosen,
    };
    ureq::Agent::with_parts(config, connector, resolver)
}

/// Resolves as usual, and refuses addresses that no server may send us to.
#[derive(Debug)]
struct GuardedResolver {
    inner: DefaultResolver,
    chosen: Chosen,
}

impl Resolver for GuardedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.inner.resolve(uri, config, timeout)?;
        let forbidden = |address: std::net::IpAddr| match self.chosen {
            Chosen::Configured => false,
            Chosen::Foreign => is_off_limits(address) || address.is_loopback(),
            Chosen::ForeignLocal => is_off_limits(address),
        };
        if addresses.iter().any(|address| forbidden(address.ip())) {
            return Err(ureq::Error::Other(Box::new(OffLimits)));
        }
        Ok(addresses)
    }
}

#[derive(Debug)]
struct PaceConnector {
    window: Duration,
    bytes: u64,
}

impl<In: Transport> Connector<In> for PaceConnector {
    type Out = PacedTransport<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        Ok(chained.map(|inner| PacedTransport {
            inner,
            window: self.window,
            bytes: self.bytes,
            waited: Duration::ZERO,
            received: 0,
        }))
    }
}

#[derive(Debug)]
struct PacedTransport<T> {
    inner: T,
    window: Duration,
    bytes: u64,
    /// In this window.
    waited: Duration,
    /// In this window.
    received: u64,
}

impl<T: Transport> Transport for PacedTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        // What comes now answers what goes out now.
        self.waited = Duration::ZERO;
        self.received = 0;
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let before = self.inner.buffers().input().len();
        let start = Instant::now();
        let progress = self.inner.await_input(timeout)?;
        self.waited += start.elapsed();
        let after = self.inner.buffers().input().len();
        self.received += after.saturating_sub(before) as u64;
        if self.waited >= self.window {
            if self.received < self.bytes {
                let slow = TooSlow {
                    bytes: self.bytes,
                    window: self.window,
                };
                return Err(ureq::Error::Other(Box::new(slow)));
            }
            self.waited = Duration::ZERO;
            self.received = 0;
        }
        Ok(progress)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r11_names_that_lead_to_this_machine() {
        let resolve = |chosen: Chosen, url: &str| {
            let resolver = GuardedResolver {
                inner: DefaultResolver::default(),
                chosen,
            };
            let limit = NextTimeout::default();
            let config = ureq::config::Config::default();
            resolver
                .resolve(&url.parse().unwrap(), &config, limit)
                .is_ok()
        };
        for (url, foreign, foreign_local) in [
            ("http://localhost/", false, true),
            ("http://127.1.2.3/", false, true),
            ("http://169.254.169.254/", false, false),
            ("http://0.0.0.0/", false, false),
            ("http://10.0.0.1/", true, true),
        ] {
            assert!(resolve(Chosen::Configured, url), "{url}");
            assert_eq!(resolve(Chosen::Foreign, url), foreign, "{url}");
            assert_eq!(resolve(Chosen::ForeignLocal, url), foreign_local, "{url}");
        }
    }
}
