// SPDX-License-Identifier: Apache-2.0
//! `wharf start --foreground`: the steps from a definition to a container that systemd supervises.
//!
//! 1. load the definition, lock the container, reclaim what an earlier run left
//! 2. resolve the image, pulled as the policy says
//! 3. move to `engine` in the unit's cgroup; the payload will live in `payload` beside it
//! 4. mount the root file system in a private mount namespace
//! 5. user, environment, volumes, files of the run-time directory
//! 6. render config.json, run the precreate hooks
//! 7. make the standard streams, create the container
//! 8. `MAINPID=`, and wait until systemd has adopted it; write the run-time record
//! 9. `READY=1`, then let the program run
//! 10. become the relay, or end
//!
//! When a step fails, its error goes to `STATUS=`, to the journal and to the exit history, and
//! [`Remains::reclaim`] removes whatever the steps before it made. Without a service manager
//! (`NOTIFY_SOCKET` unset) steps 8 to 10 are [`shell`]'s.

use std::path::Path;

use anyhow::Context as _;
use rustix::fs::Mode;

use crate::definition::load;
use crate::definition::{Definition, Root as RootSource};
use crate::engine::container::Container;
use crate::engine::images::obtain::{self, Wanted};
use crate::engine::run::bundle;
use crate::engine::run::cleanup::Remains;
use crate::engine::run::context::{Prepared, Start, Stopwatch};
use crate::engine::run::{cgroup, failure, handover, root, shell};
use crate::image::Image;
use crate::journal::event::Event;
use crate::journal::log;
use crate::paths::{Paths, Scope};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::systemd::notify::{BARRIER_DEADLINE, Notifier};

/// Exit status of a start that wharf could not make; 126 and 127 as in a shell.
pub const EXIT_ENGINE: u8 = 125;

/// Starts the container and becomes its relay, or stays with it in a person's shell. Returns the
/// status to exit with.
///
/// # Errors
///
/// In a person's shell, what the start failed with; [`exit_status`] tells the status to exit with.
/// Under a service manager the error is told where people look, and its status is returned.
pub fn foreground(container: Container<'_>) -> anyhow::Result<u8> {
    // Files for the container are readable to its users whatever shell or unit this runs in;
    // config.json has the container's own mask.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let Some(notifier) = Notifier::from_env()? else {
        return run(container, None);
    };
    let name = container.name();
    if !cgroup::is_own_unit(name) {
        anyhow::bail!(
            "$NOTIFY_SOCKET is another unit's: start container '{name}' with 'systemctl start {}', \
             or unset the variable to run it here",
            name.unit()
        );
    }
    run(container, Some(&notifier)).or_else(|err| {
        give_up(container, &notifier, &err);
        Ok(exit_status(&err))
    })
}

/// Tells everybody who looks why there is no container. Nothing here may hide the error itself.
fn give_up(container: Container<'_>, notifier: &Notifier, err: &anyhow::Error) {
    let name = container.name();
    let message = format!("{err:#}");
    // First, because killing the payload, once it is the main process, ends this process too.
    if let Err(err) = failure::write(container, &message) {
        tracing::warn!("writing why the start failed, ignoring: {err:#}");
    }
    let told = notifier.status(&message);
    // A message of a process that has ended is nobody's when systemd reads it.
    if let Err(err) = told.and_then(|()| notifier.barrier(BARRIER_DEADLINE)) {
        tracing::warn!("{err:#}, ignoring");
    }
    log::event(
        Event::EngineFailed,
        name,
        &format!("Container '{name}' was not started: {message}"),
        &[],
    );
    let reclaimed = container
        .lock()
        .and_then(|_lock| Remains::read(container).reclaim());
    if let Err(err) = reclaimed {
        tracing::warn!("{err:#}, ignoring; the next start tries again");
    }
}

/// The exit status that a failed start ends with: 127 and 126 when the command is not there or
/// cannot be executed, else [`EXIT_ENGINE`].
pub fn exit_status(err: &anyhow::Error) -> u8 {
    use crate::engine::inside::executable::CommandError;
    match err.downcast_ref::<CommandError>() {
        Some(CommandError::NotFound(_)) => 127,
        Some(CommandError::NotExecutable(_)) => 126,
        Some(CommandError::Lookup(_)) | None => EXIT_ENGINE,
    }
}

fn run(container: Container<'_>, notifier: Option<&Notifier>) -> anyhow::Result<u8> {
    let (paths, name) = (container.paths(), container.name());
    if paths.scope() == Scope::User {
        anyhow::bail!(
            "containers of a user manager cannot run yet: define '{name}' below /etc/wharf and use \
             the system manager"
        );
    }
    let mut stopwatch = Stopwatch::start();
    let definition = load::load(paths, name)?;
    let lock = container.lock()?;
    let remains = Remains::read(container);
    // A container that a shell was running when it was killed is reclaimed; one of the unit is not.
    let of_unit = remains.record().is_some_and(|r| r.invocation_id.is_some());
    if notifier.is_none() && of_unit && remains.is_running() {
        anyhow::bail!("container '{name}' is running: stop it with 'wharf stop {name}'");
    }
    remains
        .recover()
        .context("reclaiming what an earlier run left")?;
    stopwatch.lap("load");
    match notifier {
        Some(notifier) => {
            note_stale_unit(paths, &definition);
            let prepared = prepare(container, definition, stopwatch, Some(notifier))?;
            handover::hand_over(prepared, notifier, lock)
        }
        // The lock is held until the container has ended.
        None => match prepare(container, definition, stopwatch, None) {
            Ok(prepared) => shell::stay(prepared),
            Err(err) => {
                // With a service manager `give_up` does so.
                let left = Remains::read(container);
                left.reclaim().unwrap_or_else(|err| {
                    tracing::warn!("{err:#}, ignoring; the next start tries again");
                });
                Err(err)
            }
        },
    }
}

/// Steps 2 to 6.
fn prepare<'a>(
    container: Container<'a>,
    definition: Definition,
    mut stopwatch: Stopwatch,
    notifier: Option<&Notifier>,
) -> anyhow::Result<Prepared<'a>> {
    let paths = container.paths();
    let settings = Settings::load(paths)?;
    let source = obtain_image(paths, &definition, &settings, notifier)?;
    stopwatch.lap("image");
    let (payload, cgroup_namespace) = cgroup::enter(container.name(), notifier)?;
    let mut start = Start {
        container,
        id: container.id()?,
        runtime: Runtime::find(&settings, paths)?,
        payload,
        cgroup_namespace,
        // A terminal may run in a unit of its own, whose id is not the container's.
        invocation_id: notifier.and_then(|_| std::env::var("INVOCATION_ID").ok()),
        source,
        definition,
        settings,
        stopwatch,
    };
    let rootfs = root::mount(&start)?;
    start.stopwatch.lap("mount");
    // Volumes are filled at first use, which takes as long as they are large.
    let bundle = obtain::patiently(notifier, || bundle::prepare(&start, &rootfs))?;
    start.stopwatch.lap("bundle");
    Ok(Prepared {
        start,
        bundle,
        rootfs,
    })
}

/// Says so when systemd has not read the definition since it was changed: limits, restart policy
/// and dependencies of the unit are then those of before, or the template's. systemctl(1) warns of
/// that only while the unit is loaded.
fn note_stale_unit(paths: &Paths, definition: &Definition) {
    let unit = definition.name.unit();
    let drop_in = paths.generated_drop_in(&unit);
    let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let read = changed(&drop_in);
    let newest = definition
        .sources
        .iter()
        .filter_map(|path| changed(path))
        .max();
    let name = &definition.name;
    if read.is_none() && name.instance().is_some() {
        log::note(&format!(
            "The instance '{name}' has no file of its own, so the generator does not know it: limits \
             and restart policy of its definition do not apply. 'mkdir -p \
             /etc/wharf/containers/{name}.toml.d && systemctl daemon-reload' makes it known"
        ));
    } else if read.is_none() || newest > read {
        // Equal where both were written within one tick of the kernel's clock.
        log::note(&format!(
            "The definition of container '{name}' changed after systemd read it: its limits and \
             restart policy are those of before, until 'systemctl daemon-reload'"
        ));
    }
}

/// Step 2.
fn obtain_image(
    paths: &Paths,
    definition: &Definition,
    settings: &Settings,
    notifier: Option<&Notifier>,
) -> anyhow::Result<Option<Image>> {
    match &definition.root {
        RootSource::Image(reference) => {
            let wanted = Wanted {
                image: reference,
                policy: definition.pull_policy,
            };
            obtain::obtain(paths, settings, wanted, notifier).map(Some)
        }
        RootSource::Rootfs(_) => Ok(None),
    }
}
