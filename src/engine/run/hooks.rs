// SPDX-License-Identifier: Apache-2.0
//! Hooks that the engine runs itself: `precreate` and `poststop`.
//!
//! The others are the OCI runtime's (runtime-spec, "POSIX-platform Hooks"). A hook has a deadline
//! and a process group that dies with it; its output is bounded; no lock of ours is visible to it
//! as an inherited descriptor (threats L5).

use std::path::Path;

use anyhow::{Context as _, bail};
use oci_spec::runtime::Spec;
use serde_json::json;

use crate::definition::Hook;
use crate::records::run::RunRecord;
use crate::sys::command::{Command, Output};

/// Most that a precreate hook may print: what `sys::command` keeps.
fn run(hook: &Hook, stdin: Vec<u8>) -> anyhow::Result<Output> {
    let mut command = Command::new(&hook.path);
    // The first argument is the program's own name, as in the OCI specification.
    command.args(hook.args.iter().skip(1)).env_clear();
    for variable in &hook.env {
        if let Some((key, value)) = variable.split_once('=') {
            command.env(key, value);
        }
    }
    command
        .stdin_bytes(stdin)
        .deadline(hook.timeout)
        .run()
        .with_context(|| format!("running hook '{}'", hook.path.display()))
}

/// Lets each precreate hook change the configuration: it gets config.json on standard input and
/// prints the one to use; printing nothing keeps it.
///
/// # Errors
///
/// A hook that fails, or prints what is not a configuration.
pub(crate) fn precreate(hooks: &[Hook], mut spec: Spec) -> anyhow::Result<Spec> {
    for hook in hooks {
        let output = run(hook, serde_json::to_vec(&spec)?)?;
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        spec = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("reading what hook '{}' printed", hook.path.display()))?;
    }
    Ok(spec)
}

/// Runs every poststop hook of the record with the OCI state on standard input, the later ones too when one
/// fails.
///
/// # Errors
///
/// All failures in one message; the container is gone already.
pub(crate) fn poststop(record: &RunRecord, bundle: &Path) -> anyhow::Result<()> {
    let state = json!({
        "ociVersion": "1.0.2",
        "id": record.id.as_str(),
        "status": "stopped",
        "bundle": bundle,
        "annotations": { "wharf.name": record.name.as_str() },
    });
    let state = serde_json::to_vec(&state)?;
    let failures: Vec<String> = record
        .poststop
        .iter()
        .filter_map(|hook| run(&Hook::from(hook), state.clone()).err())
        .map(|err| format!("{err:#}"))
        .collect();
    if failures.is_empty() {
        return Ok(());
    }
    bail!(failures.join("; "));
}
