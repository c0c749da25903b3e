// SPDX-License-Identifier: Apache-2.0
//! What wharf does: start a container, clean up after it, tell its state.
//!
//! Only this layer combines two backends. What can be decided without touching the machine is a
//! pure function ([`spec`], [`outcome`]) and golden-tested; the rest is steps. [`Engine`] is the
//! context that the steps share; it owns nothing that has to be closed.

use crate::paths::Paths;

pub mod control;
pub mod difference;
pub mod files;
pub mod images;
pub mod inside;
pub mod refusal;
pub mod run;
pub mod spec;
pub mod view;

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
