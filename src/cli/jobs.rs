// SPDX-License-Identifier: Apache-2.0
//! What the verbs that act on several containers share: go through all of them, tell each failure
//! with what its journal says, and end with the status of the first.

use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::Context as _;

use super::Context;
use super::exit::{self, ExitStatus};
use super::terminal::{escape, escape_bytes};
use crate::engine::control::lifecycle::{self, Container, Done, Freshness};
use crate::engine::refusal::Refusal;
use crate::journal::read::{self, AtEnd, Lines, Range};
use crate::name::ContainerName;
use crate::storage::walk::Warnings;
use crate::systemd::manager::{Job, Jobs, Manager};

/// Lines of its journal shown for a container that failed to start.
const TAIL_LINES: u64 = 10;

/// Names of containers, as most verbs take them.
#[derive(Debug, clap::Args)]
pub(super) struct Names {
    /// Names of containers
    #[arg(required = true, value_name = "NAME")]
    pub(super) names: Vec<ContainerName>,
}

/// Prints a note to standard error. Nobody is left to tell when that is gone.
pub(super) fn note(text: &str) {
    drop(writeln!(io::stderr(), "wharf: {}", escape(text)));
}

/// Prints what a walk through a container's files has to say.
pub(super) fn warn(warnings: &Warnings) {
    for text in &warnings.texts {
        note(&format!("warning: {text}"));
    }
    let more = warnings.count.saturating_sub(warnings.texts.len() as u64);
    if more > 0 {
        note(&format!("warning: and {more} more of this kind"));
    }
}

/// Prints an error, and the end of the failed run's journal if there was a run.
fn report(context: &Context, err: &anyhow::Error) {
    note(&format!("{err:#}"));
    let failed = err.chain().find_map(|cause| match cause.downcast_ref() {
        Some(Refusal::Failed { invocation_id, .. }) => invocation_id.as_deref(),
        Some(Refusal::Undefined { .. } | Refusal::State { .. }) | None => None,
    });
    if let Some(invocation_id) = failed
        && let Err(err) = print_tail(context, invocation_id)
    {
        tracing::debug!("{err:#}, ignoring");
    }
}

fn print_tail(context: &Context, invocation_id: &str) -> anyhow::Result<()> {
    read::sync();
    let range = Range {
        lines: Lines::Last(TAIL_LINES),
        at_end: AtEnd::Stop,
        since: None,
        until: None,
    };
    for entry in read::run(context.paths()?.scope(), invocation_id, &range)? {
        let entry = entry?;
        let who = entry.text("SYSLOG_IDENTIFIER").unwrap_or_default();
        let message = escape_bytes(entry.bytes("MESSAGE").unwrap_or_default());
        drop(writeln!(io::stderr(), "  {}: {message}", escape(&who)));
    }
    let hint = format!("journalctl _SYSTEMD_INVOCATION_ID={invocation_id}");
    drop(writeln!(io::stderr(), "  ('{hint}' has all of it)"));
    Ok(())
}

/// Runs `act` for every name and reports each error; the status is that of the first.
pub(super) fn each<T>(
    context: &Context,
    names: impl IntoIterator<Item = T>,
    mut act: impl FnMut(T) -> anyhow::Result<()>,
) -> ExitStatus {
    let mut status = ExitStatus::Success;
    for name in names {
        if let Err(err) = act(name) {
            report(context, &err);
            if status == ExitStatus::Success {
                status = exit::status_of(&err);
            }
        }
    }
    status
}

/// Runs `act` for every container named, as [`each`] does.
pub(super) fn each_container(
    context: &Context,
    names: &Names,
    mut act: impl FnMut(&Container<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitStatus> {
    let manager = connect(context)?;
    Ok(each(context, &names.names, |name| {
        act(&Container {
            paths: context.paths()?,
            manager: &manager,
            name,
        })
    }))
}

/// Connects to the manager.
pub(super) fn connect(context: &Context) -> anyhow::Result<Manager> {
    context.require_machine()?;
    Manager::connect(context.paths()?.scope()).context("connecting to systemd")
}

/// Has systemd read the definitions again if they have changed, and says so.
pub(super) fn refresh(
    context: &Context,
    manager: &Manager,
    names: &[ContainerName],
) -> anyhow::Result<()> {
    let fresh = lifecycle::refresh(context.paths()?, manager, names)
        .context("making systemd read changed definitions")?;
    match fresh {
        Freshness::Fresh => {}
        Freshness::Reloaded => note("definitions have changed, systemd was reloaded"),
    }
    Ok(())
}

/// Queues a job for every name, then waits for all of them: as much at once as systemd allows.
pub(super) fn run_all(
    context: &Context,
    manager: &Manager,
    (names, limit): (&[ContainerName], Option<Duration>),
    queue: impl Fn(&Container<'_>, &Jobs<'_>) -> anyhow::Result<Option<Job>>,
) -> anyhow::Result<ExitStatus> {
    let mut jobs = manager.jobs()?;
    let mut queued = Vec::new();
    let paths = context.paths()?;
    let container = |name| Container {
        paths,
        manager,
        name,
    };
    let refused = each(context, names, |name| {
        queued.extend(queue(&container(name), &jobs)?.map(|job| (name, job)));
        Ok(())
    });
    let finished = each(context, &queued, |(name, job)| {
        match container(name).finish(&mut jobs, job, limit)? {
            Done::Now => {}
            // Zero means kill.
            Done::Killed if limit == Some(Duration::ZERO) => {}
            Done::Killed => note(&format!(
                "container '{name}' did not stop in time and was killed"
            )),
        }
        Ok(())
    });
    Ok(match refused {
        ExitStatus::Success => finished,
        status => status,
    })
}
