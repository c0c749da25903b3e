// SPDX-License-Identifier: Apache-2.0
//! What wharf remembers of a container: the record of its run, and the history of its exits.

pub mod history;
pub mod run;
