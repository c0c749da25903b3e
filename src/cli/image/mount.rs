// SPDX-License-Identifier: Apache-2.0
//! `wharf image mount`: an image as a directory to look at.

use crate::cli::Context;
use crate::cli::exit::ExitStatus;
use crate::cli::output::store::Mounts;
use crate::cli::terminal::{Cell, Colour, Out, Table};
use crate::engine::images::mounts;
use crate::reference::Reference;

/// Mount an image read-only and print where, or list what is mounted
///
/// A mounted image is not removed. It stays mounted until 'wharf image unmount' or a reboot.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// References or ids; without one, print the list
    #[arg(value_name = "REF")]
    images: Vec<String>,
    /// Print images and directories as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let mounted = match args.images.as_slice() {
        [] => mounts::mounted(paths)?,
        images => mounts::mount(paths, images)?,
    };
    let mut out = Out::stdout();
    if args.json {
        out.json(&Mounts::new(mounted))?;
    } else if args.images.is_empty() {
        let mut table = Table::new(&["REFERENCE", "PATH"]);
        for mount in &mounted {
            let names: Vec<String> = mount.references.iter().map(Reference::familiar).collect();
            let name = match names.as_slice() {
                [] => "<none>".to_owned(),
                names => names.join(", "),
            };
            table.push(vec![
                Cell::new(&name, Colour::Plain),
                Cell::new(&mount.path.display().to_string(), Colour::Plain),
            ]);
        }
        out.table(&table)?;
    } else {
        for mount in &mounted {
            out.line(&mount.path.display().to_string())?;
        }
    }
    out.flush()?;
    Ok(ExitStatus::Success)
}
