// SPDX-License-Identifier: Apache-2.0
//! The journal: what wharf writes to it and how it is read back.

pub mod kmsg;
