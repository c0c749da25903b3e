// SPDX-License-Identifier: Apache-2.0
//! `wharf diff`: what a container has changed in its root file system.

use serde::Serialize;

use super::exit::ExitStatus;
use super::terminal::{Out, escape_bytes};
use super::{Context, jobs, output};
use crate::engine::Engine;
use crate::engine::files::changes;
use crate::name::ContainerName;
use crate::storage::changes::Difference;

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

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    name: &'a ContainerName,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    path: String,
    kind: Difference,
}

/// Shows it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let engine = Engine::new(context.paths()?.clone());
    let found = changes::changes(&engine, &args.name)?;
    jobs::warn(&found.warnings);
    let mut out = Out::stdout();
    if args.json {
        let changes = found.differences.iter().map(|(path, kind)| Change {
            path: shown(path),
            kind: *kind,
        });
        let report = Report {
            schema: output::SCHEMA,
            name: &args.name,
            changes: changes.collect(),
        };
        out.json(&report)?;
    } else {
        for (path, kind) in &found.differences {
            let letter = match kind {
                Difference::Added => 'A',
                Difference::Changed => 'C',
                Difference::Deleted => 'D',
            };
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
