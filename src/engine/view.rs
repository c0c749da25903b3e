// SPDX-License-Identifier: Apache-2.0
//! What is so: the state of containers, their definitions, their runs and what they printed, one of them
//! or all at once. Reads, and changes nothing.

pub mod check;
pub mod definitions;
pub mod facts;
pub mod listing;
pub mod logs;
pub mod run;
pub mod status;
