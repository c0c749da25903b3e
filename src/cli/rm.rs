// SPDX-License-Identifier: Apache-2.0
//! `wharf rm`: remove what is kept of containers that do not run.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::terminal::Out;
use crate::engine::control::remove;

/// Remove what is kept of containers that do not run
///
/// That is their exit history, their writable layer and their artifacts.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Removes it, and says what stays.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let mut out = Out::stdout();
    let status = jobs::each_container(context, &args.names, |managed| {
        let name = managed.container.name();
        let left = remove::remove(managed)?;
        match left {
            Some(file) => out.line(&format!(
                "removed what was kept of container '{name}'; its definition stays: {}",
                file.display()
            ))?,
            None => out.line(&format!("removed what was kept of container '{name}'"))?,
        }
        Ok(())
    })?;
    out.flush()?;
    Ok(status)
}
