// SPDX-License-Identifier: Apache-2.0
//! What can be tested on any machine as root: the library, and the programs below roots of their own.

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
    pub(crate) mod cage;
    pub(crate) mod fuzz;
    pub(crate) mod hostile;
    pub(crate) mod hub;
    pub(crate) mod image_cli;
    pub(crate) mod image_registry;
    pub(crate) mod layout;
    pub(crate) mod pull;
    pub(crate) mod registry;
    pub(crate) mod registry_case;
    pub(crate) mod sweep;
    pub(crate) mod tar;
    pub(crate) mod tar_random;
}

mod cli;
mod definition;
mod generator;
mod hostile;
mod house;
mod image;
mod records;
mod registry;
mod spec;
mod storage;
