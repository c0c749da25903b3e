// SPDX-License-Identifier: Apache-2.0
//! wharf-generator(8).
fn main() {}
