// SPDX-License-Identifier: Apache-2.0
//! The client of registries against servers that behave, and that do not.

mod auth;
mod client;
mod config;
mod login;
mod proxy;
mod random;
mod redirect;
mod tls;
mod transfer;
