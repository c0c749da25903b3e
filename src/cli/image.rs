// SPDX-License-Identifier: Apache-2.0
//! `wharf image VERB`: the images of this machine. One file per verb.
//!
//! The verbs need no systemd, and no network but those that talk to registries; they work with
//! `--root` as well.

mod check;
mod inspect;
mod load;
mod ls;
mod pull;
mod rm;
mod tag;

use std::collections::BTreeSet;

use clap::Subcommand;

use super::Context;
use super::exit::ExitStatus;
use crate::image::Digest;
use crate::paths::Paths;
use crate::state::{self, ImageRecord};
use crate::sys;

/// Pull, load, list, check and remove images
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(pull::Args),
    Load(load::Args),
    Ls(ls::Args),
    Inspect(inspect::Args),
    Tag(tag::Args),
    Rm(rm::Args),
    Check(check::Args),
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    match &args.verb {
        Verb::Pull(args) => pull::run(&context.paths, args),
        Verb::Load(args) => load::run(&context.paths, args),
        Verb::Ls(args) => ls::run(&context.paths, args),
        Verb::Inspect(args) => inspect::run(&context.paths, args),
        Verb::Tag(args) => tag::run(&context.paths, args),
        Verb::Rm(args) => rm::run(&context.paths, args),
        Verb::Check(args) => check::run(&context.paths, args),
    }
}

/// The manifests of images that containers were started from and not cleaned up since.
fn in_use(paths: &Paths) -> anyhow::Result<BTreeSet<Digest>> {
    let names = sys::fs::list_dir(&paths.runtime().join("containers"))?;
    let records = names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter_map(|name| state::load(paths, &name));
    Ok(records
        .filter_map(|record| match record.image {
            ImageRecord::Image { digest, .. } => digest.parse().ok(),
            ImageRecord::Rootfs(_) => None,
        })
        .collect())
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
