// SPDX-License-Identifier: Apache-2.0
//! Definitions as files: loaded, merged, checked, shown.

mod cli;
mod files;
mod load;
mod random;
