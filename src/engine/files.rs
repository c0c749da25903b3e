// SPDX-License-Identifier: Apache-2.0
//! Files of containers, seen from outside: export, commit, differences, copies, mounts, artifacts.
//! Nothing of a container is executed for that.

pub mod artifact;
pub mod changes;
pub mod commit;
pub mod copy;
pub mod export;
pub mod mount;
pub mod size;
pub mod transfer;
pub mod tree;
