// SPDX-License-Identifier: Apache-2.0
//! What wharf does: start a container, clean up after it, tell its state.
//!
//! Only this layer combines two backends. What can be decided without touching the machine is a
//! pure function ([`spec`], [`run::outcome`]) and golden-tested; the rest is steps. The noun
//! that they share is [`container::Container`].
//!
//! Rooms, each using only what is to its right (`tests/it/house/layering.rs`): `control → run → files →
//! {inside, images} → {spec, view} → {refusal, difference} → container`.

pub mod container;
pub mod control;
pub mod difference;
pub mod files;
pub mod images;
pub mod inside;
pub mod refusal;
pub mod run;
pub mod spec;
pub mod view;
