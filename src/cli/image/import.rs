// SPDX-License-Identifier: Apache-2.0
//! `wharf image import`: an archive of a root file system becomes an image.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::exit::ExitStatus;
use crate::cli::output::image::Made;
use crate::cli::terminal::Out;
use crate::cli::{Context, infile};
use crate::engine::images::archives::{self, Import};
use crate::reference::Reference;

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

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let shown = args.file.display().to_string();
    let file = if args.file == Path::new("-") {
        infile::stdin("give the archive's name or redirect it")?
    } else {
        File::open(&args.file).with_context(|| format!("opening '{shown}'"))?
    };
    let asked = Import {
        file,
        shown,
        name: args.name.as_ref(),
        changes: &args.changes,
        message: args.message.as_deref(),
    };
    let made = archives::import(paths, asked)?;
    for warning in &made.warnings {
        // Nobody is left to tell when standard error is gone.
        writeln!(io::stderr(), "warning: {warning}").ok();
    }
    let mut out = Out::stdout();
    if args.json {
        out.json(&Made::new(args.name.as_ref(), &made))?;
    } else {
        let name = args.name.as_ref().map(Reference::familiar);
        let name = name.unwrap_or_else(|| made.digest.to_string());
        out.line(&format!("imported {name}"))?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
