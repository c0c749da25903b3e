// SPDX-License-Identifier: Apache-2.0
//! Images as containers need them: brought before a start, kept while they are needed, removed after.
//! The store and the registries are `image` and `registry`; the policy is here.

pub mod gc;
pub mod needs;
pub mod obtain;
