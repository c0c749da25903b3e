// SPDX-License-Identifier: Apache-2.0
//! Registries: the distribution specification's protocol over HTTP, with credentials, TLS,
//! mirrors and what hostile or broken servers make of them (hostile-inputs R).
//!
//! Gives and takes bytes and streams; what a manifest means is `image`'s part.
