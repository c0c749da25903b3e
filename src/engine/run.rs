// SPDX-License-Identifier: Apache-2.0
//! One run of a container: the steps of a start, what runs beside it, and the clean-up after it.
//!
//! [`start`] and [`cleanup`] have the steps, numbered; the other files are what the steps are made of.
//! What can be decided without touching the machine is a pure function ([`outcome`]).

mod bundle;
mod cgroup;
pub mod cleanup;
mod context;
mod devices;
mod failure;
mod handover;
mod hooks;
pub mod outcome;
mod record;
pub mod reload;
mod root;
mod shell;
pub mod start;
mod stdio;
