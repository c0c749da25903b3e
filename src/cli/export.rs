// SPDX-License-Identifier: Apache-2.0
//! `wharf export`: the root file system of a container as a tar archive.

use std::path::PathBuf;

use super::exit::ExitStatus;
use super::{Context, jobs, outfile};
use crate::engine::files::export;
use crate::name::ContainerName;

const EXAMPLES: &str = "\
Examples:
  wharf export -o web.tar web
  wharf export web | tar -tv";

/// Write the root file system of a container as a tar archive
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The container
    #[arg(value_name = "NAME")]
    name: ContainerName,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let packed = outfile::write(args.output.as_deref(), &mut |out| {
        export::export(context.container(&args.name)?, out)
    })?;
    let warnings = packed.warnings;
    jobs::warn(&warnings.texts, warnings.count);
    Ok(ExitStatus::Success)
}
