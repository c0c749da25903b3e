// SPDX-License-Identifier: Apache-2.0
//! wharf under a real systemd, in a lab (`tests/lab/lab`): on Debian 13 with systemd 257, and on Debian
//! 12 with 252. nextest runs two labs at a time (.config/nextest.toml).

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a panic is how a test reports, standard error is what nextest shows, and nobody else sees it"
)]

#[path = "../support"]
mod support {
    pub(crate) mod container;
    pub(crate) mod invariants;
    pub(crate) mod kill;
    pub(crate) mod lab;
    pub(crate) mod random;
}

mod bad_definitions;
mod commands;
mod containerfs;
mod crash;
mod exit;
mod faults;
mod fidelity;
mod generator;
mod images;
mod inside;
mod lifecycle;
mod output;
mod pull;
mod registry;
mod shell;
mod smoke;
mod upgrade;
mod web;
