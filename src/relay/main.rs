// SPDX-License-Identifier: Apache-2.0
//! wharf-relay: moves a container's bytes to the journal.
fn main() {}
