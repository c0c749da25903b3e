// SPDX-License-Identifier: Apache-2.0
//! `wharf completion`: scripts for the shells, made from the command line's own definition.

use std::io;

use clap::CommandFactory as _;

use super::exit::ExitStatus;
use super::terminal::Out;
use super::{Cli, Context};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Shells we make scripts for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(_context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let shell = match args.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = io::Cursor::new(Vec::new());
    clap_complete::generate(shell, &mut Cli::command(), "wharf", &mut script);
    let mut out = Out::stdout();
    out.bytes(script.get_ref())?;
    out.flush()?;
    Ok(ExitStatus::Success)
}
