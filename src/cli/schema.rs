// SPDX-License-Identifier: Apache-2.0
//! `wharf schema`: the JSON Schema of definitions, for editors.

use super::Context;
use super::exit::ExitStatus;
use super::terminal::Out;
use crate::definition::schema::render_schema;

/// Print the JSON Schema of definitions, for editors that complete and check TOML
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the schema.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(_context: &Context, _args: &Args) -> anyhow::Result<ExitStatus> {
    let mut out = Out::stdout();
    out.json(&render_schema())?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
