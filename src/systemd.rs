// SPDX-License-Identifier: Apache-2.0
//! systemd as a service: its manager over D-Bus.
//!
//! No unit *text* here; that is `unitfile`. The start path of a container uses nothing of
//! [`manager`]: a start needs no D-Bus connection.

mod connection;
mod error;
pub mod manager;
pub mod unit;

pub use error::Error;
