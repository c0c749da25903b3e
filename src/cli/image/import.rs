// SPDX-License-Identifier: Apache-2.0
//! `wharf image import`: an archive of a root file system becomes an image.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::exit::{Exit, ExitStatus};
use crate::cli::infile;
use crate::cli::output::SCHEMA;
use crate::cli::terminal::Out;
use crate::engine::images::needs;
use crate::image::import::{Labels, import};
use crate::image::{Digest, Reference};
use crate::instruction::Instruction;

/// Make an image of an archive of a root file system
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A tar archive, also compressed with gzip or zstd; '-' is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The image's name
    #[arg(value_name = "REF")]
    name: Option<Reference>,
    /// Apply an instruction such as 'CMD ["nginx"]' or 'ENV LANG=C'; may be given several times
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Say in the image's history why it was made
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Print the image as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    schema: u32,
    reference: Option<Reference>,
    digest: Digest,
    id: Digest,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let shown = args.file.display().to_string();
    let file = if args.file == Path::new("-") {
        infile::stdin("give the archive's name or redirect it")?
    } else {
        File::open(&args.file).with_context(|| format!("opening '{shown}'"))?
    };
    let instructions = args.changes.iter().map(|text| text.parse::<Instruction>());
    let instructions = instructions
        .collect::<Result<Vec<_>, _>>()
        .map_err(|err| Exit::usage(err.to_string()))?;
    let store = needs::store(paths)?;
    let labels = Labels {
        name: args.name.clone(),
        instructions,
        message: args.message.clone(),
        created: Timestamp::now().to_string(),
        source: shown.clone(),
    };
    let made =
        import(&store, file, &labels, &|_| {}).with_context(|| format!("importing '{shown}'"))?;
    for warning in &made.warnings {
        // Nobody is left to tell when standard error is gone.
        writeln!(io::stderr(), "warning: {warning}").ok();
    }
    let mut out = Out::stdout();
    if args.json {
        let made = Made {
            schema: SCHEMA,
            reference: args.name.clone(),
            digest: made.digest,
            id: made.id,
        };
        out.json(&made)?;
    } else {
        let name = args.name.as_ref().map(Reference::familiar);
        let name = name.unwrap_or_else(|| made.digest.to_string());
        out.line(&format!("imported {name}"))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
