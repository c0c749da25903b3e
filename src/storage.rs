// SPDX-License-Identifier: Apache-2.0
//! File systems of containers: unpacked layers, the overlay that joins them, volumes.
//!
//! Nothing here knows where layers come from (`image`) or what will run on them (`engine`).

pub mod changes;
pub mod decode;
pub mod extract;
pub mod facts;
pub mod layer;
pub mod linked;
pub mod member;
pub mod merged;
mod names;
pub mod overlay;
pub mod pack;
pub mod pax;
pub mod place;
pub mod view;
pub mod volume;
pub mod walk;
