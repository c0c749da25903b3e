// SPDX-License-Identifier: Apache-2.0
//! systemd as a service: its manager over D-Bus.
//!
//! No unit *text* here; that is `unitfile`. The start path of a container uses nothing below
//! [`manager`]: a start needs no D-Bus connection.

mod error;

pub use error::Error;
