// SPDX-License-Identifier: Apache-2.0
//! `wharf inspect`: everything known about containers, for programs.

use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::terminal::Out;
use super::{Context, output};
use crate::engine::Engine;
use crate::engine::files::size;
use crate::engine::view::definitions::{self, Found};
use crate::records::history;

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
    let status = jobs::each_container(context, &args.names, |container| {
        let name = container.name;
        let seen = container.observe()?;
        let history = history::load(context.paths()?, name)?;
        let mut inspected = output::Inspected::new(name.clone(), seen, history);
        inspected.definition = match definitions::find(context.paths()?, name) {
            Found::File(path) => Some(path.display().to_string()),
            Found::Masked(_) | Found::Absent => None,
        };
        if args.size {
            let engine = Engine::new(context.paths()?.clone());
            inspected.size = Some(size::size(&engine, name)?.into());
        }
        containers.push(inspected);
        Ok(())
    })?;
    let inspection = output::Inspection {
        schema: output::SCHEMA,
        containers,
    };
    let mut out = Out::stdout();
    out.json(&inspection)?;
    out.flush()?;
    Ok(status)
}
