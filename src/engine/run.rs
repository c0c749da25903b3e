// SPDX-License-Identifier: Apache-2.0
//! One run of a container: the steps of a start, what runs beside it, and the clean-up after it.
//! What can be decided without touching the machine is a pure function ([`outcome`]).

mod bundle;
pub mod cleanup;
mod handover;
pub mod hooks;
pub mod outcome;
pub mod reload;
mod shell;
pub mod start;
mod stdio;
