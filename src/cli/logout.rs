// SPDX-License-Identifier: Apache-2.0
//! `wharf logout`: forget credentials.

use super::Context;
use super::exit::ExitStatus;
use super::terminal::{Out, escape};
use crate::engine::images::credentials;

/// Forget the credentials of a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry, as it was given to 'wharf login'
    #[arg(required_unless_present = "all")]
    registry: Option<String>,
    /// Forget those of all registries
    #[arg(long, conflicts_with = "registry")]
    all: bool,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let registry = args.registry.as_deref().map(str::parse).transpose()?;
    let names = credentials::log_out(context.paths()?, registry.as_ref())?;
    let mut out = Out::stdout();
    for name in &names {
        out.line(&format!("logged out of '{}'", escape(name)))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
