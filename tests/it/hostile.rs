// SPDX-License-Identifier: Apache-2.0
//! Hostile inputs and faults, by the rows of docs/threats.md.

mod bombs;
mod fuzz;
mod kill;
mod pull;
mod tar;
mod tar_readers;
