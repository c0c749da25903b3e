// SPDX-License-Identifier: Apache-2.0
//! Talking to the service manager.
//!
//! What a service tells its manager is in [`notify`]. Unit text is not made here
//! (`unitfile`), and nothing here knows containers.

pub mod notify;
