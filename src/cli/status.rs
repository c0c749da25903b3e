// SPDX-License-Identifier: Apache-2.0
//! `wharf status`: how one container fares, for people.

use jiff::Timestamp;

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::phrase::{self, Standing};
use super::terminal::{Out, escape};
use crate::engine::view::definitions::{self, Found};
use crate::engine::view::facts::Facts;
use crate::engine::view::run::Root;
use crate::engine::view::status::State;
use crate::name::ContainerName;

/// Show how containers fare; ends with 3 if one does not run
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    names: Names,
}

/// Prints it.
pub fn run(context: &Context, args: &Args) -> anyhow::Result<ExitStatus> {
    let mut out = Out::stdout();
    let mut all_run = true;
    let status = jobs::each_container(context, &args.names, |managed| {
        let name = managed.container.name();
        let facts: Facts = managed.observe()?.into();
        all_run &= matches!(facts.state, State::Running | State::Paused);
        let file = match definitions::find(managed.container) {
            Found::File(path) => path.display().to_string(),
            Found::Masked(path) => format!("masked by {}", path.display()),
            Found::Absent => "none any more".to_owned(),
        };
        print(&mut out, name, &facts, &file)
    })?;
    out.flush()?;
    Ok(match status {
        ExitStatus::Success if !all_run => ExitStatus::NotRunning,
        status => status,
    })
}

fn print(out: &mut Out, name: &ContainerName, seen: &Facts, file: &str) -> anyhow::Result<()> {
    let standing = Standing {
        state: seen.state,
        course: seen.course,
        started_at: seen.run.as_ref().map(|run| run.started_at.as_str()),
        last: seen.last.as_ref(),
    };
    let mut state = seen.state.word().to_owned();
    let phrase = phrase::standing(&standing, Timestamp::now());
    if !phrase.is_empty() {
        state = format!("{state}: {phrase}");
    }
    let colour = phrase::colour(seen.state, seen.last.as_ref());
    out.line(&format!("{} {name}", out.paint("●", colour)))?;
    let mut fact = |label: &str, text: &str| out.line(&format!("{label:>12}: {}", escape(text)));
    fact("State", &state)?;
    fact("Definition", file)?;
    for (label, text) in facts_of_run(seen)
        .into_iter()
        .chain(facts_of_unit(name, seen))
    {
        fact(label, &text)?;
    }
    Ok(())
}

fn facts_of_run(seen: &Facts) -> Vec<(&'static str, String)> {
    let Some(run) = &seen.run else {
        return Vec::new();
    };
    let image = match &run.root {
        Root::Image { reference, digest } => format!("{reference} ({digest})"),
        Root::Directory(path) => path.display().to_string(),
    };
    vec![
        ("Image", image),
        ("Id", run.id.clone()),
        ("Command", run.args.join(" ")),
        ("Started", phrase::local_time(&run.started_at)),
    ]
}

fn facts_of_unit(name: &ContainerName, seen: &Facts) -> Vec<(&'static str, String)> {
    let unit = &seen.unit;
    let mut view = format!(
        "{}, {} ({})",
        name.unit(),
        unit.active_state,
        unit.sub_state
    );
    match unit.result.as_str() {
        "success" | "" => {}
        result => view.push_str(&format!(", result '{result}'")),
    }
    let mut facts = vec![("Unit", view)];
    if let Some(pid) = unit.main_pid {
        facts.push(("Main PID", pid.to_string()));
    }
    if !unit.status_text.is_empty() {
        facts.push(("Says", unit.status_text.clone()));
    }
    if unit.restarts != 0 {
        facts.push(("Restarts", unit.restarts.to_string()));
    }
    if unit.need_daemon_reload {
        facts.push((
            "Note",
            "definitions have changed; the next start has them".to_owned(),
        ));
    }
    let (limits, usage) = (&seen.limits, &seen.usage);
    facts.push(("Memory", of(usage.memory, limits.memory_max, phrase::bytes)));
    facts.push((
        "Tasks",
        of(usage.tasks, limits.tasks_max, |count| count.to_string()),
    ));
    let cpus = limits.cpus_milli.map_or_else(
        || "no limit".to_owned(),
        |milli| format!("at most {}.{:03} CPUs", milli / 1000, milli % 1000),
    );
    facts.push(("CPU", cpus));
    facts
}

/// "12M of at most 512M".
fn of(used: Option<u64>, limit: Option<u64>, format: impl Fn(u64) -> String) -> String {
    let limit = limit.map_or_else(
        || "no limit".to_owned(),
        |l| format!("at most {}", format(l)),
    );
    match used {
        Some(used) => format!("{} of {limit}", format(used)),
        None => limit,
    }
}
