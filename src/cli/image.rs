// SPDX-License-Identifier: Apache-2.0
//! `wharf image VERB`: the images of this machine. One file per verb.
//!
//! The verbs need no systemd, and no network but those that talk to registries; they work with
//! `--root` as well.

mod check;
mod diff;
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

use super::Context;
use super::exit::ExitStatus;
use super::terminal::escape;
use super::verb::verbs;

/// Pull, load, list, check, share and remove images
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

verbs! {
    "Bring and share images" {
        Pull: pull,
        Push: push,
        Load: load,
        Save: save,
        Import: import,
    }
    "Look at images" {
        Ls: ls,
        Inspect: inspect,
        History: history,
        Diff: diff,
        Mount: mount,
        Unmount: unmount,
    }
    "Keep the store in order" {
        Tag: tag,
        Rm: rm,
        Prune: prune,
        Gc: gc,
        Check: check,
    }
}

/// Runs the verb.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    args.verb.run(context)
}

/// Says on standard error why less was freed than one would think.
fn note_hindrance(hindrance: Option<&str>) {
    if let Some(hindrance) = hindrance {
        // Nobody is left to tell when standard error is gone.
        writeln!(io::stderr(), "warning: {}", escape(hindrance)).ok();
    }
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
