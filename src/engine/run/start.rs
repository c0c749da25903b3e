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
//! [`cleanup::reclaim`] removes whatever the steps before it made. Without a service manager
//! (`NOTIFY_SOCKET` unset) steps 8 to 10 are [`shell`]'s.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use rustix::fs::Mode;

use crate::definition::load;
use crate::definition::{Definition, Propagation, Root as RootSource};
use crate::engine::Engine;
use crate::engine::images::obtain::{self, Wanted};
use crate::engine::run::bundle::{self, Bundle};
use crate::engine::run::cleanup;
use crate::engine::run::handover;
use crate::engine::run::handover::BARRIER_DEADLINE;
use crate::engine::run::shell;
use crate::engine::spec::CgroupNamespace;
use crate::image::Image;
use crate::journal::event::Event;
use crate::journal::log;
use crate::name::{ContainerId, ContainerName};
use crate::paths::Scope;
use crate::records::run::{self, ImageRecord, Phase};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::storage::overlay::{self, Rootfs, Upper};
use crate::sys;
use crate::sys::cgroup::Cgroup;
use crate::sys::mount::Isolation;
use crate::systemd::notify::Notifier;

/// Exit status of a start that wharf could not make; 126 and 127 as in a shell.
pub const EXIT_ENGINE: u8 = 125;

/// Time stamps of the phases.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    last: Instant,
    phases: Vec<Phase>,
}

impl Stopwatch {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            phases: Vec::new(),
        }
    }

    /// Ends the phase `name`.
    pub(crate) fn lap(&mut self, name: &str) {
        let now = Instant::now();
        self.phases.push(Phase {
            name: name.to_owned(),
            micros: u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX),
        });
        self.last = now;
    }

    pub(crate) fn into_phases(self) -> Vec<Phase> {
        self.phases
    }
}

/// What the steps make and the later ones need.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) definition: Definition,
    pub(crate) settings: Settings,
    pub(crate) id: ContainerId,
    pub(crate) runtime: Runtime,
    /// The payload's cgroup, below the unit's or below the one of a person's shell.
    pub(crate) payload: Cgroup,
    pub(crate) cgroup_namespace: CgroupNamespace,
    /// systemd's id of this run; none in a person's shell.
    pub(crate) invocation_id: Option<String>,
    /// None for a directory of the host.
    pub(crate) source: Option<Image>,
    pub(crate) stopwatch: Stopwatch,
}

impl Start<'_> {
    /// The image that the definition names.
    fn image(&self) -> anyhow::Result<&Image> {
        self.source.as_ref().context("the image was not looked up")
    }

    /// What the run-time record says of the root file system.
    pub(crate) fn image_record(&self) -> anyhow::Result<ImageRecord> {
        Ok(match &self.definition.root {
            RootSource::Rootfs(path) => ImageRecord::Rootfs(path.clone()),
            RootSource::Image(reference) => ImageRecord::Image {
                reference: reference.clone(),
                digest: self.image()?.digest.clone(),
            },
        })
    }
}

/// Starts the container and becomes its relay, or stays with it in a person's shell. Returns the
/// status to exit with.
///
/// # Errors
///
/// In a person's shell, what the start failed with; [`exit_status`] tells the status to exit with.
/// Under a service manager the error is told where people look, and its status is returned.
pub fn foreground(engine: &Engine, name: &ContainerName) -> anyhow::Result<u8> {
    // Files for the container are readable to its users whatever shell or unit this runs in;
    // config.json has the container's own mask.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let Some(notifier) = Notifier::from_env()? else {
        return run(engine, name, None);
    };
    if !is_unit_of(name) {
        anyhow::bail!(
            "$NOTIFY_SOCKET is another unit's: start container '{name}' with 'systemctl start {}', \
             or unset the variable to run it here",
            name.unit()
        );
    }
    run(engine, name, Some(&notifier)).or_else(|err| {
        give_up(engine, name, &notifier, &err);
        Ok(exit_status(&err))
    })
}

/// Whether this process belongs to the container's unit.
fn is_unit_of(name: &ContainerName) -> bool {
    let unit = name.unit();
    let is_unit = |group: &Cgroup| group.name() == unit.as_str();
    Cgroup::own().is_ok_and(|own| is_unit(&own) || own.parent().as_ref().is_some_and(is_unit))
}

/// Tells everybody who looks why there is no container. Nothing here may hide the error itself.
fn give_up(engine: &Engine, name: &ContainerName, notifier: &Notifier, err: &anyhow::Error) {
    let message = format!("{err:#}");
    // First, because killing the payload, once it is the main process, ends this process too.
    if let Err(err) = cleanup::write_failure(&engine.paths, name, &message) {
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
    let reclaimed = cleanup::lock(engine, name).and_then(|_lock| cleanup::reclaim(engine, name));
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

fn run(engine: &Engine, name: &ContainerName, notifier: Option<&Notifier>) -> anyhow::Result<u8> {
    if engine.paths.scope() == Scope::User {
        anyhow::bail!(
            "containers of a user manager cannot run yet: define '{name}' below /etc/wharf and use \
             the system manager"
        );
    }
    let mut stopwatch = Stopwatch::start();
    let definition = load::load(&engine.paths, name)?;
    let lock = cleanup::lock(engine, name)?;
    // A container that a shell was running when it was killed is reclaimed; one of the unit is not.
    let record = run::load(&engine.paths, name);
    let of_unit = record.is_some_and(|record| record.invocation_id.is_some());
    if notifier.is_none() && of_unit && cleanup::is_running(engine, name) {
        anyhow::bail!("container '{name}' is running: stop it with 'wharf stop {name}'");
    }
    cleanup::recover(engine, name).context("reclaiming what an earlier run left")?;
    stopwatch.lap("load");
    match notifier {
        Some(notifier) => {
            note_stale_unit(engine, &definition);
            let (start, bundle, rootfs) = prepare(engine, definition, stopwatch, Some(notifier))?;
            handover::hand_over(start, bundle, rootfs, notifier, lock)
        }
        // The lock is held until the container has ended.
        None => match prepare(engine, definition, stopwatch, None) {
            Ok((start, bundle, rootfs)) => shell::stay(start, &bundle, rootfs),
            Err(err) => {
                // With a service manager `give_up` does so.
                cleanup::reclaim(engine, name).unwrap_or_else(|err| {
                    tracing::warn!("{err:#}, ignoring; the next start tries again");
                });
                Err(err)
            }
        },
    }
}

/// Steps 2 to 6.
fn prepare<'a>(
    engine: &'a Engine,
    definition: Definition,
    mut stopwatch: Stopwatch,
    notifier: Option<&Notifier>,
) -> anyhow::Result<(Start<'a>, Bundle, Rootfs)> {
    let settings = Settings::load(&engine.paths)?;
    let source = obtain_image(engine, &definition, &settings, notifier)?;
    stopwatch.lap("image");
    let (payload, cgroup_namespace) = enter_cgroup(&definition.name, notifier)?;
    let mut start = Start {
        engine,
        id: cleanup::container_id(&definition.name)?,
        runtime: Runtime::find(&settings, &engine.paths)?,
        payload,
        cgroup_namespace,
        // A terminal may run in a unit of its own, whose id is not the container's.
        invocation_id: notifier.and_then(|_| std::env::var("INVOCATION_ID").ok()),
        source,
        definition,
        settings,
        stopwatch,
    };
    let rootfs = mount_rootfs(&start)?;
    start.stopwatch.lap("mount");
    // Volumes are filled at first use, which takes as long as they are large.
    let bundle = obtain::patiently(notifier, || bundle::prepare(&start, &rootfs))?;
    start.stopwatch.lap("bundle");
    Ok((start, bundle, rootfs))
}

/// Says so when systemd has not read the definition since it was changed: limits, restart policy
/// and dependencies of the unit are then those of before, or the template's. systemctl(1) warns of
/// that only while the unit is loaded.
fn note_stale_unit(engine: &Engine, definition: &Definition) {
    let unit = definition.name.unit();
    let drop_in = engine.paths.generated_drop_in(&unit);
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
    engine: &Engine,
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
            obtain::obtain(&engine.paths, settings, wanted, notifier).map(Some)
        }
        RootSource::Rootfs(_) => Ok(None),
    }
}

/// Step 3. The root of the cgroup namespace is the unit's cgroup: the container then finds the
/// unit's limits, those that `systemctl set-property` changes, at the root of its /sys/fs/cgroup.
fn enter_cgroup(
    name: &ContainerName,
    notifier: Option<&Notifier>,
) -> anyhow::Result<(Cgroup, CgroupNamespace)> {
    let own = Cgroup::own().context("finding the control group of this process")?;
    if notifier.is_none() {
        // A session's group is shared by whatever else the person runs.
        let payload = own.child(&format!("wharf-{name}"));
        return Ok((payload, CgroupNamespace::New));
    }
    // No inner processes: from systemd 254 on, DelegateSubgroup= has put us where we belong.
    if let Some(unit) = own.parent().filter(|_| own.name() == cleanup::ENGINE) {
        unit.enter_namespace()?;
        return Ok((unit.child(cleanup::PAYLOAD), CgroupNamespace::Inherited));
    }
    sys::mount::unshare_cgroup()?;
    let engine = own.child(cleanup::ENGINE);
    engine.ensure()?;
    engine
        .enter()
        .context("moving to the engine's control group")?;
    Ok((own.child(cleanup::PAYLOAD), CgroupNamespace::Inherited))
}

/// Step 4.
fn mount_rootfs(start: &Start<'_>) -> anyhow::Result<Rootfs> {
    let definition = &start.definition;
    let paths = &start.engine.paths;
    let dir = paths.container_runtime(&definition.name);
    sys::fs::ensure_dir(&dir, 0o700)?;
    sys::mount::unshare_mounts(&dir, isolation(definition))?;
    match &definition.root {
        RootSource::Rootfs(source) => overlay::bind(paths, &definition.name, source),
        RootSource::Image(_) => {
            let layers = &start.image()?.layers;
            overlay::mount(paths, &definition.name, layers, upper(definition))
        }
    }
}

/// What the container mounts in a `shared` volume must reach the host.
fn isolation(definition: &Definition) -> Isolation {
    let shared = definition.storage.volumes.iter().any(|volume| {
        matches!(
            volume.propagation,
            Propagation::Shared | Propagation::Rshared
        )
    });
    if shared {
        Isolation::Shared
    } else {
        Isolation::Slave
    }
}

/// What becomes of what the container writes.
pub(crate) fn upper(definition: &Definition) -> Upper {
    match (definition.storage.read_only, definition.storage.persist) {
        (true, _) => Upper::Memory,
        (false, true) => Upper::Persistent,
        (false, false) => Upper::Ephemeral,
    }
}
