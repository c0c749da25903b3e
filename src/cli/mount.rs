// SPDX-License-Identifier: Apache-2.0
//! `wharf mount`: a container's file system as a directory to look at.

use super::exit::ExitStatus;
use super::output::files::{Mounted, Mounts};
use super::terminal::{Cell, Colour, Out, Table};
use super::{Context, jobs};
use crate::engine::container::Container;
use crate::engine::files::mount;
use crate::name::ContainerName;

/// Mount the file system of containers read-only and print where, or list the mounted
///
/// It is unmounted when the container starts, ends or is removed. Links in it lead to files of the
/// host: 'wharf cp' follows them as the container does.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of containers; without one, print the list
    #[arg(value_name = "NAME")]
    names: Vec<ContainerName>,
    /// Print JSON, see wharf(1)
    #[arg(long)]
    json: bool,
}

/// Mounts them, or lists.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let mut mounts = Vec::new();
    let mut add = |name: ContainerName| {
        let path = mount::target(Container::new(paths, &name));
        let path = path.display().to_string();
        mounts.push(Mounted { name, path });
    };
    let mut status = ExitStatus::Success;
    if args.names.is_empty() {
        mount::mounted(paths)?.into_iter().for_each(add);
    } else {
        status = jobs::each(context, &args.names, |name| {
            mount::mount(Container::new(paths, name))?;
            add(name.clone());
            Ok(())
        });
    }
    let mut out = Out::stdout();
    if args.json {
        out.json(&Mounts::new(mounts))?;
    } else if args.names.is_empty() {
        let mut table = Table::new(&["NAME", "PATH"]);
        for mount in &mounts {
            table.push(vec![
                Cell::new(mount.name.as_str(), Colour::Plain),
                Cell::new(&mount.path, Colour::Plain),
            ]);
        }
        out.table(&table)?;
    } else {
        for mount in &mounts {
            out.line(&mount.path)?;
        }
    }
    out.flush()?;
    Ok(status)
}
