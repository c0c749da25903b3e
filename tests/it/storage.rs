// SPDX-License-Identifier: Apache-2.0
//! Layers, archives, containers' file systems.

mod containerfs;
mod copy;
mod layer_formats;
mod layers;
mod pack;
