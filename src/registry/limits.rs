// SPDX-License-Identifier: Apache-2.0
//! How long and how often: every duration and count of the client in one value.
//!
//! The defaults are for the internet; tests give shorter ones through [`super::Client::with_limits`].

use std::time::Duration;

/// Largest manifest or index: 4 MiB, as registries have it.
pub const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Largest answer of a token server: 1 MiB.
pub const TOKEN_BYTES_MAX: u64 = 1 << 20;
/// Most that is read of an error's body, of which a line is shown: 64 KiB.
pub const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Longest header of a response, all fields together: 64 KiB.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most redirects of one request.
pub const REDIRECTS_MAX: usize = 10;

/// Durations and counts.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a name to be resolved. 15 s.
    pub resolve: Duration,
    /// For a connection, TLS included. 20 s.
    pub connect: Duration,
    /// For the whole header of a response after the request was sent. 60 s.
    pub respond: Duration,
    /// For the header of the response that ends an upload: registries hash or copy the blob
    /// before they answer. 10 min.
    pub settle: Duration,
    /// For the next byte in either direction, the first one of a response too. 60 s.
    pub idle: Duration,
    /// While waiting for bytes this long altogether … 60 s.
    pub pace_window: Duration,
    /// … at least this many must have come. 60 KiB, which is 1 KiB/s.
    pub pace_bytes: u64,
    /// How often a request is sent before it counts as failed. 5.
    pub tries: u32,
    /// Wait before the second try, doubled for each further one, less up to half of it by
    /// chance. 0.5 s.
    pub backoff: Duration,
    /// Longest wait between tries. 30 s.
    pub backoff_max: Duration,
    /// Longest wait that a server can ask for with Retry-After; what asks for more has failed.
    /// 60 s.
    pub retry_after_max: Duration,
    /// For a credential helper to answer. 30 s.
    pub helper: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            resolve: secs(15),
            connect: secs(20),
            respond: secs(60),
            settle: secs(600),
            idle: secs(60),
            pace_window: secs(60),
            pace_bytes: 60 << 10,
            tries: 5,
            backoff: Duration::from_millis(500),
            backoff_max: secs(30),
            retry_after_max: secs(60),
            helper: secs(30),
        }
    }
}
