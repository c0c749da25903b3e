// SPDX-License-Identifier: Apache-2.0
//! What the verbs that act on several containers share: go through all of them, tell each failure
//! with what its journal says, and end with the status of the first.

use std::io::{self, Write as _};
use std::time::Duration;

use super::Context;
use super::exit::{self, ExitStatus};
use super::terminal::{escape, escape_bytes};
use crate::engine::control::jobs::{Control, Order};
use crate::engine::control::lifecycle::{Done, Freshness, Managed};
use crate::engine::refusal::Refusal;
use crate::engine::view::logs;
use crate::name::ContainerName;

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
/// `count` is how many there were; of those `texts` are kept.
pub(super) fn warn(texts: &[String], count: u64) {
    for text in texts {
        note(&format!("warning: {text}"));
    }
    let more = count.saturating_sub(texts.len() as u64);
    if more > 0 {
        note(&format!("warning: and {more} more of this kind"));
    }
}

/// Prints an error, and the end of the failed run's journal if there was a run.
fn report(context: &Context, err: &anyhow::Error) {
    note(&format!("{err:#}"));
    let failed = err.chain().find_map(|cause| match cause.downcast_ref() {
        Some(Refusal::Failed { invocation_id, .. }) => invocation_id.as_deref(),
        Some(Refusal::State { .. }) | None => None,
    });
    if let Some(invocation_id) = failed
        && let Err(err) = print_tail(context, invocation_id)
    {
        tracing::debug!("{err:#}, ignoring");
    }
}

fn print_tail(context: &Context, invocation_id: &str) -> anyhow::Result<()> {
    for line in logs::tail(context.paths()?, invocation_id, TAIL_LINES)? {
        let line = line?;
        let message = escape_bytes(line.message());
        let who = line.identifier();
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
    mut act: impl FnMut(&Managed<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<ExitStatus> {
    let control = connect(context)?;
    Ok(each(context, &names.names, |name| {
        act(&control.managed(name))
    }))
}

/// Connects to the manager.
pub(super) fn connect(context: &Context) -> anyhow::Result<Control<'_>> {
    context.require_machine()?;
    Control::connect(context.paths()?)
}

/// Has systemd read the definitions again if they have changed, and says so.
pub(super) fn refresh(control: &Control<'_>, names: &[ContainerName]) -> anyhow::Result<()> {
    match control.refresh(names)? {
        Freshness::Fresh => {}
        Freshness::Reloaded => note("definitions have changed, systemd was reloaded"),
    }
    Ok(())
}

/// Carries out an order and reports each error; the status is that of the first.
pub(super) fn carry_out(
    context: &Context,
    control: &Control<'_>,
    order: Order<'_>,
) -> anyhow::Result<ExitStatus> {
    let mut status = ExitStatus::Success;
    control.carry_out(order, &mut |name, done| match done {
        Ok(Done::Now) => {}
        // Zero means kill.
        Ok(Done::Killed) if order.limit == Some(Duration::ZERO) => {}
        Ok(Done::Killed) => note(&format!(
            "container '{name}' did not stop in time and was killed"
        )),
        Err(err) => {
            report(context, &err);
            if status == ExitStatus::Success {
                status = exit::status_of(&err);
            }
        }
    })?;
    Ok(status)
}
