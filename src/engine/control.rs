// SPDX-License-Identifier: Apache-2.0
//! What commands do to containers through systemd's jobs, one or several at once: start, stop, wait,
//! remove.

pub mod jobs;
pub mod lifecycle;
pub mod remove;
pub mod wait;
