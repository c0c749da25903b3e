// SPDX-License-Identifier: Apache-2.0
//! Rules of the source tree that the compiler does not know.

mod docs;
mod layering;
mod rings;
mod threats;
