// SPDX-License-Identifier: Apache-2.0
//! What wharf does: start a container, clean up after it, tell its state.
//!
//! Only this layer combines two backends. What can be decided without touching the machine is a
//! pure function ([`spec`], [`outcome`]) and golden-tested; the rest is steps. [`Engine`] is the
//! context that the steps share; it owns nothing that has to be closed.

use crate::paths::Paths;

pub mod artifact;
mod bundle;
pub mod changes;
pub mod command;
pub mod commit;
pub mod copy;
pub mod definitions;
pub mod env;
pub mod etc;
pub mod exit;
pub mod export;
pub mod gc;
mod handover;
pub mod hooks;
pub mod host;
pub mod images;
pub mod keep;
pub mod lifecycle;
mod links;
pub mod listing;
pub mod mounted;
pub mod outcome;
pub mod payload;
pub mod reload;
pub mod removal;
mod shell;
pub mod size;
pub mod spec;
pub mod start;
pub mod status;
mod stdio;
pub mod transfer;
pub mod tree;
pub mod user;
mod volumes;
pub mod wait;

/// What every step needs to know.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Where everything is.
    pub paths: Paths,
}

impl Engine {
    /// The engine for these paths. Settings are read by the steps that need them, so that a slip in
    /// wharf.toml does not keep a container from being cleaned up.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }
}
