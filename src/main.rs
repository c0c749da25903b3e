// SPDX-License-Identifier: Apache-2.0
//! wharf(1).
fn main() {}
