// SPDX-License-Identifier: Apache-2.0
//! wharf, a container engine whose only supervisor is systemd.
//!
//! The modules form layers; use goes down only, and `tests/it/house/layering.rs` says so:
//!
//! 1. front ends: [`cli`], [`generator`]
//! 2. what we do: [`engine`], and [`relay`], which the engine becomes by exec; it knows of it only
//!    the command line ([`relay::invocation`])
//! 3. what we use: [`image`], [`storage`], [`registry`], [`runtime`], [`systemd`], [`journal`],
//!    [`records`]; siblings do not import each other, except image → storage and registry
//! 4. vocabulary: [`definition`], [`unitfile`], [`settings`], [`mod@reference`], [`digest`], [`name`],
//!    [`paths`], [`platform`], [`instruction`]
//! 5. kernel: [`sys`], the only place for `unsafe`, raw descriptors and libc
//!
//! `docs/architecture.md` tells the same with the reasons.

pub mod cli;
pub mod definition;
pub mod digest;
pub mod engine;
pub mod generator;
pub mod image;
pub mod instruction;
pub mod journal;
pub mod name;
pub mod paths;
pub mod platform;
pub mod records;
pub mod reference;
pub mod registry;
pub mod relay;
pub mod runtime;
pub mod settings;
pub mod storage;
pub mod sys;
pub mod systemd;
pub mod unitfile;
