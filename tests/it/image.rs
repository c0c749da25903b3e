// SPDX-License-Identifier: Apache-2.0
//! The image store through its commands: bring, keep, check, give away.

mod commands;
mod damage;
mod gc;
mod load;
mod pull;
mod pull_shared;
mod push;
mod repair;
mod save;
