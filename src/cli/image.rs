// SPDX-License-Identifier: Apache-2.0
//! `wharf image VERB`: the images of this machine. One file per verb.
//!
//! The verbs need no systemd, and no network but those that talk to registries; they work with
//! `--root` as well.

mod check;
mod diff;
mod filter;
mod gc;
mod history;
mod import;
mod inspect;
mod load;
mod ls;
mod mount;
mod prune;
mod pull;
mod push;
mod rm;
mod save;
mod tag;
mod unmount;

use std::io::{self, Write as _};

use clap::Subcommand;

use super::Context;
use super::exit::ExitStatus;
use super::terminal::escape;
use crate::image::remove;
use crate::image::store::Store;

/// Pull, load, list, check, share and remove images
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(pull::Args),
    Load(load::Args),
    Save(save::Args),
    Import(import::Args),
    Ls(ls::Args),
    Inspect(inspect::Args),
    History(history::Args),
    Tag(tag::Args),
    Rm(rm::Args),
    Prune(prune::Args),
    Gc(gc::Args),
    Mount(mount::Args),
    Unmount(unmount::Args),
    Diff(diff::Args),
    Push(push::Args),
    Check(check::Args),
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    match &args.verb {
        Verb::Pull(args) => pull::run(&context.paths, args),
        Verb::Load(args) => load::run(&context.paths, args),
        Verb::Save(args) => save::run(&context.paths, args),
        Verb::Import(args) => import::run(&context.paths, args),
        Verb::Ls(args) => ls::run(&context.paths, args),
        Verb::Inspect(args) => inspect::run(&context.paths, args),
        Verb::History(args) => history::run(&context.paths, args),
        Verb::Tag(args) => tag::run(&context.paths, args),
        Verb::Rm(args) => rm::run(&context.paths, args),
        Verb::Prune(args) => prune::run(&context.paths, args),
        Verb::Gc(args) => gc::run(&context.paths, args),
        Verb::Mount(args) => mount::run(&context.paths, args),
        Verb::Unmount(args) => unmount::run(&context.paths, args),
        Verb::Push(args) => push::run(&context.paths, args),
        Verb::Diff(args) => diff::run(&context.paths, args),
        Verb::Check(args) => check::run(&context.paths, args),
    }
}

/// Says on standard error why less was freed than one would think.
fn note_hindrance(store: &Store) {
    if let Some(hindrance) = remove::hindrance(store) {
        // Nobody is left to tell when standard error is gone.
        writeln!(io::stderr(), "warning: {}", escape(&hindrance)).ok();
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
