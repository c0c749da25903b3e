// SPDX-License-Identifier: Apache-2.0
//! systemd as a service: its manager over D-Bus, and what a service tells its manager.
//!
//! No unit *text* here; that is `unitfile`, and nothing here knows containers. The start path of a
//! container uses [`notify`] and nothing of [`manager`]: a start needs no D-Bus connection.

mod connection;
mod error;
pub mod manager;
pub mod notify;
pub mod unit;

pub use error::Error;
