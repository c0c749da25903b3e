// SPDX-License-Identifier: Apache-2.0
//! `wharf check`: what is wrong with the definitions, without a running system.

use serde::Serialize;

use super::Context;
use super::exit::ExitStatus;
use super::terminal::{Out, escape};
use crate::definition::load::scan::Catalogue;
use crate::definition::load::{LoadError, load_catalogue};
use crate::definition::problem::Problem;
use crate::definition::{graph, load};
use crate::name::ContainerName;
use crate::settings::Settings;

/// Check definitions and print what is wrong, with file, line and column
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON document instead of lines
    #[arg(long)]
    json: bool,
    /// Containers to check; all of them, and files that are none, when left out
    #[arg(value_name = "NAME")]
    names: Vec<ContainerName>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'r> {
    /// Version of this document; keys are added, never removed.
    schema: u32,
    /// Containers that were looked at, sorted.
    checked: Vec<&'r ContainerName>,
    /// What is wrong, files in the order they are merged in.
    problems: &'r [Problem],
}

/// Prints every problem; the status is 2 when there is one.
///
/// # Errors
///
/// Standard output cannot be written.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let paths = context.paths()?;
    let catalogue = Catalogue::scan(paths);
    // All of them are loaded in any case: a cycle goes through containers that were not named.
    let loaded = load_catalogue(&catalogue);
    // No container starts with settings that cannot be read.
    let mut problems: Vec<Problem> = Settings::load(paths).err().into_iter().collect();
    let mut checked = Vec::new();
    if args.names.is_empty() {
        problems.extend(catalogue.problems().cloned());
    }
    for (name, result) in &loaded {
        if args.names.is_empty() || args.names.contains(name) {
            checked.push(name);
            problems.extend(result.as_ref().err().into_iter().flat_map(describe));
        }
    }
    for name in &args.names {
        // Undefined, masked, or an instance that nothing but its template defines.
        if !checked.contains(&name) {
            problems.extend(load::load(paths, name).err().iter().flat_map(describe));
            checked.push(name);
        }
    }
    for cycle in graph::find_cycles(&loaded) {
        if cycle.members.iter().any(|name| checked.contains(&name)) {
            problems.extend(cycle.problems);
        }
    }
    problems.extend(
        graph::find_undefined(&catalogue, &loaded)
            .into_iter()
            .filter(
                // By file: the same dependency is reported once for each container that has it.
                |problem| args.names.is_empty() || concerns(problem, &loaded, &args.names),
            ),
    );
    deduplicate(&mut problems);
    print(args, checked, &problems)?;
    Ok(if problems.is_empty() {
        ExitStatus::Success
    } else {
        ExitStatus::Usage
    })
}

fn describe(err: &LoadError) -> Vec<Problem> {
    match err {
        LoadError::Invalid { problems, .. } => problems.clone(),
        LoadError::Masked { file, .. } => vec![Problem::of_file(file, &err.to_string())],
        LoadError::Undefined { searched, .. } => {
            let file = searched.first().map(std::path::PathBuf::as_path);
            file.map(|file| Problem::of_file(file, &err.to_string()))
                .into_iter()
                .collect()
        }
    }
}

fn concerns(
    problem: &Problem,
    loaded: &[(
        ContainerName,
        Result<crate::definition::Definition, LoadError>,
    )],
    names: &[ContainerName],
) -> bool {
    loaded.iter().any(|(name, result)| {
        let sources = result.as_ref().map(|definition| &definition.sources);
        names.contains(name) && sources.is_ok_and(|sources| sources.contains(&problem.file))
    })
}

/// A mistake in a template or in `container.toml.d/` is one mistake.
fn deduplicate(problems: &mut Vec<Problem>) {
    let mut seen = std::collections::HashSet::new();
    problems.retain(|problem| seen.insert(problem.to_string()));
}

fn print(
    args: &Args,
    mut checked: Vec<&ContainerName>,
    problems: &[Problem],
) -> anyhow::Result<()> {
    let mut out = Out::stdout();
    if args.json {
        checked.sort();
        let report = Report {
            schema: 1,
            checked,
            problems,
        };
        out.json(&report)?;
    } else {
        for problem in problems {
            out.line(&escape(&problem.to_string()))?;
        }
    }
    out.flush()?;
    Ok(())
}
