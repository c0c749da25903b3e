// SPDX-License-Identifier: Apache-2.0
//! Connections: a resolver that a server cannot point at this machine's neighbourhood, and a
//! transport that fails when bytes come too slowly.
//!
//! The pace is measured below TLS, since one TLS record sent a byte at a time would keep a reader
//! above it waiting for hours (threats R12). What counts as progress is what readers of
//! bodies get: messages of TLS, extensions of chunks and trailers can come for ever. Only time spent
//! waiting counts: a slow reader, such as a disk, is not the server's fault.

use std::cell::Cell;
use std::io::{self, Read};
use std::thread::{self, ThreadId};
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

/// The server sends less than the slowest pace we accept, or nothing that is of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum TooSlow {
    #[error("it sends less than {bytes} bytes in {} s", window.as_secs_f32())]
    Bytes { bytes: u64, window: Duration },
    #[error("it sends less than {bytes} bytes of content in {} s", window.as_secs_f32())]
    Content { bytes: u64, window: Duration },
    #[error("it sent {bytes} bytes without any content")]
    Barren { bytes: u64 },
}

/// Most bytes in a row that give a reader nothing. Headers and handshakes are smaller.
const BARREN_BYTES_MAX: u64 = 1 << 20;

thread_local! {
    /// Bytes of bodies that were read on this thread. ureq has no way from a body to its connection,
    /// but whoever reads the one waits for the other on the same thread.
    static CONTENT: Cell<u64> = const { Cell::new(0) };
    /// Requests that were sent from this thread.
    static REQUESTS: Cell<u64> = const { Cell::new(0) };
}

/// Notes that what comes from now on answers another request. That bytes are sent does not say so:
/// TLS answers messages of its own, which a server can send without end.
pub(super) fn begin_request() {
    REQUESTS.set(REQUESTS.get().wrapping_add(1));
}

/// Who waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reader {
    thread: ThreadId,
    request: u64,
}

impl Reader {
    fn current() -> Self {
        Self {
            thread: thread::current().id(),
            request: REQUESTS.get(),
        }
    }
}

/// A body of any length, whose bytes count as progress of its connection.
pub(super) struct BodyReader(ureq::BodyReader<'static>);

impl BodyReader {
    pub(super) fn new(body: ureq::Body) -> Self {
        Self(body.into_with_config().limit(u64::MAX).reader())
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(buffer)?;
        CONTENT.set(CONTENT.get().wrapping_add(n as u64));
        Ok(n)
    }
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
            pace: Pace::new(),
        }))
    }
}

#[derive(Debug)]
struct PacedTransport<T> {
    inner: T,
    window: Duration,
    bytes: u64,
    pace: Pace,
}

/// What has come since a window of time began.
#[derive(Debug)]
struct Pace {
    waited: Duration,
    received: u64,
    reader: Reader,
    /// The reader's [`CONTENT`] when the window began.
    content_before: u64,
    /// The same when it was last looked at, and what was received since it changed.
    content: u64,
    barren: u64,
}

impl Pace {
    fn new() -> Self {
        let content = CONTENT.get();
        Self {
            waited: Duration::ZERO,
            received: 0,
            reader: Reader::current(),
            content_before: content,
            content,
            barren: 0,
        }
    }

    /// Looks at what the reader got from what had come before.
    fn look_at_content(&mut self) {
        if self.reader != Reader::current() {
            *self = Self::new();
        }
        let content = CONTENT.get();
        if content != self.content {
            self.content = content;
            self.barren = 0;
        }
    }

    /// Counts what came while we waited; fails when less than `bytes` did in a `window`.
    fn note(
        &mut self,
        waited: Duration,
        received: u64,
        bytes: u64,
        window: Duration,
    ) -> Result<(), TooSlow> {
        self.waited += waited;
        self.received = self.received.saturating_add(received);
        self.barren = self.barren.saturating_add(received);
        if self.barren > BARREN_BYTES_MAX {
            return Err(TooSlow::Barren { bytes: self.barren });
        }
        if self.waited < window {
            return Ok(());
        }
        if self.received < bytes {
            return Err(TooSlow::Bytes { bytes, window });
        }
        // Half of it: the last record of TLS may not be whole yet.
        let bytes = bytes / 2;
        if self.content.wrapping_sub(self.content_before) < bytes {
            return Err(TooSlow::Content { bytes, window });
        }
        let barren = self.barren;
        *self = Self {
            barren,
            ..Self::new()
        };
        Ok(())
    }
}

impl<T: Transport> Transport for PacedTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.pace.look_at_content();
        let before = self.inner.buffers().input().len();
        let start = Instant::now();
        let progress = self.inner.await_input(timeout)?;
        let after = self.inner.buffers().input().len();
        let received = after.saturating_sub(before) as u64;
        self.pace
            .note(start.elapsed(), received, self.bytes, self.window)
            .map_err(|slow| ureq::Error::Other(Box::new(slow)))?;
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
