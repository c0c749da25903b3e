// SPDX-License-Identifier: Apache-2.0
//! The journal: what wharf writes to it and how it is read back.
//!
//! Logs and events have no other home; there is no log file and no event bus of ours.

pub mod event;
pub mod export;
pub mod kmsg;
pub mod log;
pub mod read;
pub mod stream;
