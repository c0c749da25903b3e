// SPDX-License-Identifier: Apache-2.0
//! `wharf schema`: the JSON Schema of definitions, for editors.

use super::Context;
use super::exit::ExitStatus;
use super::terminal::Out;
use crate::definition::kinds::{AnyKind, kind_of};

/// Print the JSON Schema of definitions, for editors that complete and check TOML
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind of definition: container or image
    #[arg(long, value_name = "KIND", default_value = "container", value_parser = kind_of)]
    kind: &'static AnyKind,
}

/// Prints the schema.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(_context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let mut out = Out::stdout();
    out.json(&(args.kind.schema)())?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
