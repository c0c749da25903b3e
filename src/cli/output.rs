// SPDX-License-Identifier: Apache-2.0
//! What `--json` and `inspect` print: a contract with programs, apart from our own types.
//!
//! Within one [`SCHEMA`] keys are added, never removed or given another meaning. An absent fact is
//! `null`, not a missing key. Times are RFC 3339 in UTC, sizes are bytes. wharf(1) says the same.

pub mod container;
pub mod definition;
pub mod event;
pub mod files;
pub mod image;
pub mod store;

/// Version of everything in this module.
pub const SCHEMA: u32 = 1;
