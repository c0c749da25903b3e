// SPDX-License-Identifier: Apache-2.0
//! What runs inside the container: command, environment, user, files, volumes, as image and definition
//! say. It looks at the root file system and changes nothing of the host.

mod command;
pub mod env;
pub mod etc;
pub mod executable;
pub mod host;
pub(crate) mod links;
pub mod payload;
pub mod user;
pub(crate) mod volumes;
