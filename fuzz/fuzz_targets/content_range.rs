// SPDX-License-Identifier: Apache-2.0
//! Arbitrary bytes as what `content_range` in tests/support/fuzz.rs takes.
#![no_main]

#[path = "../../tests/support/fuzz.rs"]
mod fuzz;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::content_range(bytes));
