// SPDX-License-Identifier: Apache-2.0
//! wharf on a booted machine (`tests/rig/machine`): limits, out-of-memory kills, reboots, power cuts.
//! nextest runs one machine at a time (.config/nextest.toml).

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
    pub(crate) mod machine;
}

mod limits;
mod power_cut;
mod smoke;
