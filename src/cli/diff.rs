// SPDX-License-Identifier: Apache-2.0
//! `wharf diff`: what a container has changed in its root file system.

use super::exit::ExitStatus;
use super::output::files::Changes;
use super::terminal::{Out, escape_bytes};
use super::{Context, jobs};
use crate::engine::files::changes;
use crate::name::ContainerName;

/// Show what a container has added (A), changed (C) and deleted (D) since its image
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container
    #[arg(value_name = "NAME")]
    name: ContainerName,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
}

/// Shows it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let found = changes::changes(context.container(&args.name)?)?;
    jobs::warn(&found.warnings.texts, found.warnings.count);
    let mut out = Out::stdout();
    if args.json {
        let changes = found.differences.iter();
        let changes = changes.map(|(path, difference)| (shown(path), *difference));
        out.json(&Changes::new(&args.name, changes))?;
    } else {
        for (path, difference) in &found.differences {
            let letter = difference.letter();
            // A line break in a name must not make a line of its own.
            let path = shown(path).replace('\n', "\\n");
            out.line(&format!("{letter} {path}"))?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}

/// As the container sees it; bytes that are no text as `\xNN`.
fn shown(path: &[u8]) -> String {
    format!("/{}", escape_bytes(path))
}
