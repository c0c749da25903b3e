// SPDX-License-Identifier: Apache-2.0
//! What wharf remembers of a container: the record of its run, and the history of its exits.
//!
//! Both outlive the program that wrote them: a container goes on while the package is upgraded, and
//! a history is kept for years. So there is one rule for every record: what an older version wrote
//! is read by every later one. Fields of the first version keep their names and meaning; whatever a
//! feature adds is one sub-structure with `#[serde(default)]`, whose default says that the container
//! was started without it; fields that are not known are passed over, so that a downgrade works
//! too. `tests/cases/records` has what was really written, version by version.

pub mod history;
pub mod run;
