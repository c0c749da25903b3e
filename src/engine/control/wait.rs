// SPDX-License-Identifier: Apache-2.0
//! Waiting for the end of a container's run.
//!
//! systemd tells of every change of a unit; nothing polls. systemd closes its connections when it
//! re-executes itself, so a waiter connects again and looks afresh.

use anyhow::{Context as _, bail};

use crate::definition::value::Signal;
use crate::engine::container::Container;
use crate::engine::control::lifecycle::Managed;
use crate::engine::run::start::EXIT_ENGINE;
use crate::engine::view::status::State;
use crate::records::history::{self, Entry};
use crate::systemd::Error as SystemdError;
use crate::systemd::manager::Manager;
use crate::systemd::unit::{ActiveState, UnitProperties};

/// Waits until the current run of a container has ended, and returns the exit code of its process:
/// 128 and the signal's number when a signal ended it. A container that does not run has ended
/// already.
pub fn wait(container: Container<'_>) -> anyhow::Result<u8> {
    let mut waited = None;
    loop {
        match wait_once(container, &mut waited) {
            Err(err) if is_closed(&err) => {
                let name = container.name();
                tracing::debug!("waiting for container '{name}': {err:#}, connecting again");
            }
            other => return other,
        }
    }
}

fn is_closed(err: &anyhow::Error) -> bool {
    matches!(err.downcast_ref(), Some(SystemdError::Closed))
}

/// Waits on one connection. `waited` is the run that is waited for, once that is known.
fn wait_once(container: Container<'_>, waited: &mut Option<String>) -> anyhow::Result<u8> {
    let (paths, name) = (container.paths(), container.name());
    let manager = Manager::connect(paths.scope())?;
    let managed = Managed {
        container,
        manager: &manager,
    };
    // Before the first look, so that no change falls between the two.
    let watch = manager.watch(&name.unit())?;
    if waited.is_none() {
        let seen = managed.observe()?;
        if seen.state == State::Configured && has_ended(&seen.unit, None) {
            bail!("container '{name}' has never run, there is no exit code to wait for");
        }
        *waited = seen.unit.invocation_id();
    }
    let unit = loop {
        let unit = manager.properties(&name.unit())?;
        if has_ended(&unit, waited.as_deref()) {
            break unit;
        }
        watch.wait()?;
    };
    // Further runs may have ended since.
    let mut runs = history::load(paths, name)?.into_iter().rev();
    match runs.find(|entry| waited.is_none() || entry.invocation_id == *waited) {
        Some(entry) => Ok(code_of(&entry)),
        None => Some(&unit)
            .filter(|unit| waited.is_none() || unit.invocation_id() == *waited)
            .and_then(code_of_unit)
            .with_context(|| format!("container '{name}' has ended, and left no exit code behind")),
    }
}

/// Whether the run `waited` is over; without one, whether nothing runs.
fn has_ended(unit: &UnitProperties, waited: Option<&str>) -> bool {
    if waited.is_some_and(|id| unit.invocation_id().as_deref() != Some(id)) {
        return true;
    }
    match unit.active() {
        ActiveState::Inactive | ActiveState::Failed => true,
        ActiveState::Activating => unit.text("SubState").starts_with("auto-restart"),
        ActiveState::Active
        | ActiveState::Reloading
        | ActiveState::Deactivating
        | ActiveState::Other => false,
    }
}

fn code_of(entry: &Entry) -> u8 {
    if let Some(code) = entry.code {
        return u8::try_from(code & 0xff).unwrap_or(u8::MAX);
    }
    match &entry.signal {
        Some(signal) => signal_code(signal),
        None => EXIT_ENGINE,
    }
}

/// 128 and the number of a signal given without `SIG`.
fn signal_code(signal: &str) -> u8 {
    let number = signal.parse::<Signal>().map_or(0, |signal| signal.number);
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// What systemd remembers of the main process: `ExecMainCode` is one of waitid(2)'s `CLD_` codes.
fn code_of_unit(unit: &UnitProperties) -> Option<u8> {
    let status = unit.number("ExecMainStatus")?;
    match unit.number("ExecMainCode")? {
        1 => u8::try_from(status).ok(),
        2 | 3 => u8::try_from(128 + status).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_codes() {
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("RTMIN+3", 165), ("?", 128)] {
            assert_eq!(signal_code(signal), code, "{signal}");
        }
    }
}
