// SPDX-License-Identifier: Apache-2.0
//! What wharf does with a container: start, hand over, clean up.
//!
//! The only layer that combines image, storage, runtime and systemd. What can be decided without
//! touching the machine is a pure function ([`spec`], [`env`], [`etc`]) and golden-tested; the
//! rest is steps, each of which is undone when a later one fails.

pub mod command;
pub mod env;
pub mod etc;
pub mod host;
mod links;
pub mod payload;
pub mod spec;
pub mod user;
