// SPDX-License-Identifier: Apache-2.0
//! `wharf image tag`: another name for an image.

use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, ExitStatus};
use crate::cli::output::SCHEMA;
use crate::cli::terminal::Out;
use crate::engine::images::needs;
use crate::image::{Digest, Reference};

/// Give an image another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A reference or an id
    image: String,
    /// The new name; an image that has it keeps its content, under no name
    #[arg(value_name = "REF")]
    name: Reference,
    /// Print the name and the image as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Tagged<'a> {
    schema: u32,
    reference: &'a Reference,
    digest: Digest,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    if args.name.digest().is_some() {
        return Err(Exit::usage("a new name has no digest; leave out '@sha256:…'").into());
    }
    let store = needs::store(paths)?;
    let writer = store.write()?;
    let (_, digest) = store.find(&args.image)?;
    writer.set_reference(&args.name, &digest)?;
    if args.json {
        let tagged = Tagged {
            schema: SCHEMA,
            reference: &args.name,
            digest,
        };
        let mut out = Out::stdout();
        out.json(&tagged)?;
        out.flush()?;
    }
    Ok(ExitStatus::Success)
}
