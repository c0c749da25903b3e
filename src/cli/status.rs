// SPDX-License-Identifier: Apache-2.0
//! `wharf status`: how one container fares, for people.

use jiff::Timestamp;

use super::Context;
use super::exit::ExitStatus;
use super::jobs::{self, Names};
use super::output::{Limits, Usage};
use super::phrase::{self, Standing};
use super::terminal::{Out, escape};
use crate::engine::view::definitions::{self, Found};
use crate::engine::view::status::{Observed, State};
use crate::name::ContainerName;
use crate::records::run::ImageRecord;

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
    let status = jobs::each_container(context, &args.names, |container| {
        let name = container.name;
        let seen = container.observe()?;
        all_run &= matches!(seen.state, State::Running | State::Paused);
        let file = match definitions::find(context.paths()?, name) {
            Found::File(path) => path.display().to_string(),
            Found::Masked(path) => format!("masked by {}", path.display()),
            Found::Absent => "none any more".to_owned(),
        };
        print(&mut out, name, &seen, &file)
    })?;
    out.flush()?;
    Ok(match status {
        ExitStatus::Success if !all_run => ExitStatus::NotRunning,
        status => status,
    })
}

fn print(out: &mut Out, name: &ContainerName, seen: &Observed, file: &str) -> anyhow::Result<()> {
    let standing = Standing {
        state: seen.state,
        active: seen.unit.active(),
        sub_state: seen.unit.text("SubState"),
        record: seen.record.as_ref(),
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

fn facts_of_run(seen: &Observed) -> Vec<(&'static str, String)> {
    let Some(record) = seen.record.as_ref().filter(|_| seen.state.is_live()) else {
        return Vec::new();
    };
    let image = match &record.image {
        ImageRecord::Image { reference, digest } => format!("{reference} ({digest})"),
        ImageRecord::Rootfs(path) => path.display().to_string(),
    };
    vec![
        ("Image", image),
        ("Id", record.id.as_str().to_owned()),
        ("Command", record.args.join(" ")),
        ("Started", phrase::local_time(&record.started_at)),
    ]
}

fn facts_of_unit(name: &ContainerName, seen: &Observed) -> Vec<(&'static str, String)> {
    let unit = &seen.unit;
    let text = |property| unit.text(property);
    let mut view = format!(
        "{}, {} ({})",
        name.unit(),
        text("ActiveState"),
        text("SubState")
    );
    match text("Result") {
        "success" | "" => {}
        result => view.push_str(&format!(", result '{result}'")),
    }
    let mut facts = vec![("Unit", view)];
    if let Some(pid) = unit.number("MainPID").filter(|pid| *pid != 0) {
        facts.push(("Main PID", pid.to_string()));
    }
    if !text("StatusText").is_empty() {
        facts.push(("Says", text("StatusText").to_owned()));
    }
    if let Some(restarts) = unit.number("NRestarts").filter(|count| *count != 0) {
        facts.push(("Restarts", restarts.to_string()));
    }
    if unit.is_set("NeedDaemonReload") {
        facts.push((
            "Note",
            "definitions have changed; the next start has them".to_owned(),
        ));
    }
    let limits = Limits::new(unit);
    let usage = Usage::new(unit);
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
