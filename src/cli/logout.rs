// SPDX-License-Identifier: Apache-2.0
//! `wharf logout`: forget credentials.

use anyhow::anyhow;

use super::Context;
use super::exit::ExitStatus;
use super::login::registry_name;
use super::terminal::{Out, escape};
use crate::registry::credentials::{self, AuthFile};

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
    let path = credentials::login_file(context.paths()?);
    let mut file = AuthFile::load_or_new(&path)?;
    let names = match &args.registry {
        Some(text) => vec![registry_name(text)?],
        None => file.names(),
    };
    let mut out = Out::stdout();
    for name in &names {
        // What is not there is as it was asked to be with --all, and a slip without.
        if !file.remove(name) && args.registry.is_some() {
            return Err(anyhow!(
                "'{}' has no credentials for '{name}'; those of other files are kept by other \
                 programs, see wharf(1)",
                path.display()
            ));
        }
    }
    if !names.is_empty() {
        file.store()?;
    }
    for name in &names {
        out.line(&format!("logged out of '{}'", escape(name)))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
