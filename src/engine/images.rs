// SPDX-License-Identifier: Apache-2.0
//! Images as containers need them, brought before a start, kept while they are needed, removed after;
//! and what administrators do with them. The store and the registries are `image` and `registry`; the
//! policy is here.

pub mod archives;
pub mod check;
pub mod credentials;
pub mod describe;
pub mod filter;
pub mod gc;
pub mod listing;
pub mod mounts;
pub mod names;
pub mod needs;
pub mod obtain;
pub mod prune;
pub mod pull;
pub mod push;
