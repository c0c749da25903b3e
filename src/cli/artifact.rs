// SPDX-License-Identifier: Apache-2.0
//! `wharf artifact VERB`: small named files kept with a container.
//!
//! The verbs need no systemd, and work with `--root` as well.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::exit::ExitStatus;
use super::output::files::{Artifacts as Listed, added_at};
use super::terminal::{Cell, Colour, Out, Table};
use super::{Context, infile, jobs, outfile, phrase};
use crate::engine::files::artifact::{Artifacts, Existing};
use crate::name::{ArtifactName, ContainerName};

/// Keep small named files with a container
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(AddArgs),
    Get(GetArgs),
    Ls(LsArgs),
    Rm(RmArgs),
}

const ADD_EXAMPLES: &str = "\
Examples:
  wharf artifact add web site.conf ./site.conf
  pg_dump app | wharf artifact add --replace db dump.sql -";

/// Keep a file with a container
#[derive(Debug, clap::Args)]
#[command(after_help = ADD_EXAMPLES)]
struct AddArgs {
    /// The container
    container: ContainerName,
    /// What the artifact is called: letters, digits, '_', '.' and '-'
    name: ArtifactName,
    /// The file that is copied, or '-' for standard input
    file: PathBuf,
    /// Replace an artifact of that name
    #[arg(long)]
    replace: bool,
}

/// Write an artifact's content to a file or to standard output
#[derive(Debug, clap::Args)]
struct GetArgs {
    /// The container
    container: ContainerName,
    /// The artifact
    name: ArtifactName,
    /// Where to; without it, or with '-', standard output
    file: Option<PathBuf>,
}

/// List the artifacts of a container
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// The container
    container: ContainerName,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
}

/// Remove artifacts of a container
#[derive(Debug, clap::Args)]
struct RmArgs {
    /// The container
    container: ContainerName,
    /// The artifacts
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ArtifactName>,
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    match &args.verb {
        Verb::Add(args) => add(context, args),
        Verb::Get(args) => get(context, args),
        Verb::Ls(args) => ls(context, args),
        Verb::Rm(args) => rm(context, args),
    }
}

fn artifacts<'a>(
    context: &'a Context,
    container: &'a ContainerName,
) -> anyhow::Result<Artifacts<'a>> {
    Ok(Artifacts {
        container: context.container(container)?,
    })
}

fn add(context: &Context, args: &AddArgs) -> anyhow::Result<ExitStatus> {
    let mut content = if args.file == Path::new("-") {
        infile::stdin("redirect it or name a file")?
    } else {
        File::open(&args.file).with_context(|| format!("opening '{}'", args.file.display()))?
    };
    let existing = match args.replace {
        true => Existing::Replace,
        false => Existing::Keep,
    };
    artifacts(context, &args.container)?.add(&args.name, &mut content, existing)?;
    Ok(ExitStatus::Success)
}

fn get(context: &Context, args: &GetArgs) -> anyhow::Result<ExitStatus> {
    // Before there is a file for it.
    let mut content = artifacts(context, &args.container)?.open(&args.name)?;
    outfile::write(args.file.as_deref(), &mut |out| {
        Ok(io::copy(&mut content, out)?)
    })?;
    Ok(ExitStatus::Success)
}

fn ls(context: &Context, args: &LsArgs) -> anyhow::Result<ExitStatus> {
    let found = artifacts(context, &args.container)?.list()?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&Listed::new(&args.container, &found))?;
    } else {
        let mut table = Table::new(&["NAME", "SIZE", "ADDED"]);
        for artifact in &found {
            table.push(vec![
                artifact.name.as_str().into(),
                phrase::bytes(artifact.bytes).as_str().into(),
                Cell::new(&phrase::local_time(&added_at(artifact)), Colour::Dim),
            ]);
        }
        out.table(&table)?;
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

fn rm(context: &Context, args: &RmArgs) -> anyhow::Result<ExitStatus> {
    let artifacts = artifacts(context, &args.container)?;
    Ok(jobs::each(context, &args.names, |name| {
        artifacts.remove(name)
    }))
}
