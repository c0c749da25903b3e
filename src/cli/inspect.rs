// SPDX-License-Identifier: Apache-2.0
//! `wharf inspect`: everything known about containers, for programs.

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::output::container::{Inspected, Inspection};
use super::terminal::Out;
use crate::engine::files::size;
use crate::engine::view::definitions::{self, Found};
use crate::engine::view::run;

/// Print everything about containers as JSON, see wharf(1)
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
    /// Add up the bytes of the image and of the writable layer, which takes a while
    #[arg(short, long)]
    size: bool,
}

/// Prints it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let mut containers = Vec::new();
    let status = jobs::each_container(context, &args.names, |managed| {
        let container = managed.container;
        let name = container.name();
        let facts = managed.observe()?.into();
        let history = run::ended(container)?;
        let mut inspected = Inspected::new(name.clone(), facts, history);
        inspected.definition = match definitions::find(container) {
            Found::File(path) => Some(path.display().to_string()),
            Found::Masked(_) | Found::Absent => None,
        };
        if args.size {
            inspected.size = Some(size::size(container)?.into());
        }
        containers.push(inspected);
        Ok(())
    })?;
    let mut out = Out::stdout();
    out.json(&Inspection::new(containers))?;
    out.flush()?;
    Ok(status)
}
